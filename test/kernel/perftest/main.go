// Perftest speaks the protocol of the programs of perftest when they are started with -R, over
// package transport, to be their peer in tests: ib_send_lat, ib_write_bw and ib_read_lat. A first
// connection carries the exchange of versions, addresses and keys, in Sends, and every step of the
// test in lockstep; the second one, to the same port, is what is measured.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net/netip"
	"time"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/soft"
)

type config struct {
	test         string
	listen, dial string
	port         uint
	size, count  int
	crc          bool
	revision     int
	limit        time.Duration
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("perftest: ")
	var c config
	flag.StringVar(&c.listen, "l", "", "`address` to listen on")
	flag.StringVar(&c.dial, "c", "", "`address` to connect to")
	flag.UintVar(&c.port, "p", 18515, "`port`")
	flag.IntVar(&c.size, "s", 2, "`bytes` in a message")
	flag.IntVar(&c.count, "n", 1000, "`messages`")
	flag.BoolVar(&c.crc, "crc", true, "ask for CRC32C on the connections")
	flag.IntVar(&c.revision, "mpa", 2, "MPA `revision`")
	flag.DurationVar(&c.limit, "d", time.Minute, "limit for the whole run")
	flag.Parse()
	c.test = flag.Arg(0)
	test := tests[c.test]
	if test == nil || c.size < 1 || c.count < 1 || (c.listen == "") == (c.dial == "") {
		log.Fatal("usage: perftest {-l ADDRESS | -c ADDRESS} [options] {ib_send_lat | ib_write_bw | ib_read_lat}")
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.limit)
	defer cancel()
	said, err := c.run(ctx, test)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s: %d messages of %d bytes, %s\n", c.test, c.count, c.size, said)
}

func (c *config) run(ctx context.Context, test *test) (string, error) {
	connect, stop, err := c.connector(ctx)
	if err != nil {
		return "", err
	}
	defer stop()
	control, err := connect(controlSize, 0)
	if err != nil {
		return "", fmt.Errorf("first connection: %w", err)
	}
	defer control.farewell()
	s := &session{config: c, control: control}
	if err := s.opening(); err != nil {
		return "", fmt.Errorf("opening: %w", err)
	}
	if s.data, err = connect(c.size, test.access); err != nil {
		return "", fmt.Errorf("second connection: %w", err)
	}
	defer s.data.farewell()
	// One step behind the connection, and as many as the test has before it begins.
	for range 1 + test.steps {
		if err := s.step(); err != nil {
			return "", fmt.Errorf("before the test: %w", err)
		}
	}
	said, err := test.run(s)
	if err != nil {
		return "", err
	}
	if err := s.step(); err != nil {
		return "", fmt.Errorf("after the test: %w", err)
	}
	return said, nil
}

// connector returns what makes connections, by the role.
func (c *config) connector(ctx context.Context) (connect func(size int, access transport.Access) (*link, error), stop func(), err error) {
	where := c.listen + c.dial
	ip, err := netip.ParseAddr(where)
	if err != nil {
		return nil, nil, err
	}
	addr := netip.AddrPortFrom(ip, uint16(c.port))
	t := soft.New(&soft.Config{Revision: c.revision})
	o := &transport.Options{NoCRC: !c.crc}
	if c.dial != "" {
		return func(size int, access transport.Access) (*link, error) { return dial(ctx, t, addr, o, size, access) }, func() {}, nil
	}
	ln, err := t.Listen(ctx, addr, o)
	if err != nil {
		return nil, nil, err
	}
	log.Printf("listening on %s", ln.Addr())
	return func(size int, access transport.Access) (*link, error) { return accept(ctx, ln, size, access) }, func() { _ = ln.Close() }, nil
}
