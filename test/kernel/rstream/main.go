// Rstream speaks the protocol of librdmacm's rstream over package iwarp, to be its peer in tests:
// 16 bytes each way, then in each iteration a number of transfers from the client and as many from
// the server, and an orderly close.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"time"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/test/kernel/internal/device"
	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/soft"
)

type config struct {
	server     string // as a client: where to
	bind       string
	port       string
	size       int
	count      int
	iterations int
	verify     bool
	device     bool
	crc        bool
	revision   int
	first      bool
	limit      time.Duration
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("rstream: ")
	var c config
	flag.StringVar(&c.server, "s", "", "be the client of the server at this `address`")
	flag.StringVar(&c.bind, "b", "", "`address` to listen on")
	flag.StringVar(&c.port, "p", "7471", "`port`")
	flag.IntVar(&c.size, "S", 1000, "`bytes` in a transfer")
	flag.IntVar(&c.count, "C", 1000, "`transfers` each way in an iteration")
	flag.IntVar(&c.iterations, "I", 1, "`iterations`")
	flag.BoolVar(&c.verify, "verify", false, "compare the data, which the peer has to make with -T verify")
	flag.BoolVar(&c.device, "rnic", false, "through an RDMA device")
	flag.BoolVar(&c.crc, "crc", true, "ask for CRC32C on the connection")
	flag.IntVar(&c.revision, "mpa", 2, "MPA `revision`")
	flag.BoolVar(&c.first, "first", false, "end the stream without waiting for the peer to end it, as one of two of these programs has to")
	flag.DurationVar(&c.limit, "t", time.Minute, "limit for the whole run")
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), c.limit)
	defer cancel()
	if err := c.run(ctx); err != nil {
		log.Print(err)
		os.Exit(1)
	}
}

func (c *config) run(ctx context.Context) error {
	conn, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	info, _ := iwarp.Describe(conn)
	log.Printf("%s %s: %+v", conn.LocalAddr(), conn.RemoteAddr(), info)
	begin := time.Now()
	p := &peer{conn: conn, r: bufio.NewReaderSize(conn, 1<<16), buf: make([]byte, max(c.size, syncSize)), verify: c.verify}
	if err := p.transfers(c); err != nil {
		return err
	}
	if c.first {
		if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			return err
		}
	}
	// The peer shuts down after the last transfer, so the stream ends by its word, not by a cut.
	if n, err := p.r.Read(p.buf); n != 0 || err != io.EOF {
		return fmt.Errorf("after the last transfer: %d bytes and %v, want the end of the stream", n, err)
	}
	if err := conn.Close(); err != nil {
		return err
	}
	fmt.Printf("%d bytes each way in %v\n", c.size*c.count*c.iterations, time.Since(begin))
	return nil
}

func (c *config) connect(ctx context.Context) (net.Conn, error) {
	if c.device {
		return device.Connect(ctx, c.server, c.bind, c.port)
	}
	over := []transport.Transport{soft.New(&soft.Config{NoCRC: !c.crc, Revision: c.revision})}
	if c.server != "" {
		d := iwarp.Dialer{Offload: iwarp.OffloadRequire, Transports: over}
		return d.DialContext(ctx, "tcp", net.JoinHostPort(c.server, c.port))
	}
	lc := iwarp.ListenConfig{Offload: iwarp.OffloadRequire, Transports: over}
	ln, err := lc.Listen(ctx, "tcp", net.JoinHostPort(c.bind, c.port))
	if err != nil {
		return nil, err
	}
	defer ln.Close()
	log.Printf("listening on %s", ln.Addr())
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	return ln.Accept()
}

const syncSize = 16

// peer is one end of the stream. What it sends counts up byte by byte over the whole connection,
// and so should what it receives.
type peer struct {
	conn      io.Writer
	r         *bufio.Reader
	buf       []byte
	sent, got uint64
	verify    bool
}

func (p *peer) transfers(c *config) error {
	steps := []func(int) error{p.send, p.recv}
	if c.server == "" {
		steps[0], steps[1] = steps[1], steps[0]
	}
	for _, step := range steps {
		if err := step(syncSize); err != nil {
			return fmt.Errorf("synchronisation: %w", err)
		}
	}
	for range c.iterations {
		for _, step := range steps {
			for range c.count {
				if err := step(c.size); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (p *peer) send(n int) error {
	b := p.buf[:n]
	for i := range b {
		b[i] = byte(p.sent)
		p.sent++
	}
	if _, err := p.conn.Write(b); err != nil {
		return fmt.Errorf("after %d bytes sent: %w", p.sent-uint64(n), err)
	}
	return nil
}

func (p *peer) recv(n int) error {
	b := p.buf[:n]
	if _, err := io.ReadFull(p.r, b); err != nil {
		return fmt.Errorf("after %d bytes received: %w", p.got, err)
	}
	for _, v := range b {
		if p.verify && v != byte(p.got) {
			return fmt.Errorf("byte %d is %#02x, want %#02x", p.got, v, byte(p.got))
		}
		p.got++
	}
	return nil
}
