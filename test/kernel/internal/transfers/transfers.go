// Package transfers has what the peers of librdmacm's rstream and riostream have in common: their
// options, how they connect, and how a run ends.
package transfers

import (
	"context"
	"errors"
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

// A Config is what the options ask for.
type Config struct {
	Server     string // as a client: where to
	Size       int    // bytes in a transfer
	Count      int    // transfers each way in an iteration
	Iterations int
	Verify     bool

	bind, port string
	device     bool
	tcp        bool
	crc        bool
	revision   int
	first      bool
	limit      time.Duration
}

// Main is the main function of the program of that name, whose transfers are made by run.
func Main(name string, run func(context.Context, *Config, net.Conn) (io.Reader, error)) {
	log.SetFlags(0)
	log.SetPrefix(name + ": ")
	var c Config
	flag.StringVar(&c.Server, "s", "", "be the client of the server at this `address`")
	flag.StringVar(&c.bind, "b", "", "`address` to listen on")
	flag.StringVar(&c.port, "p", "7471", "`port`")
	flag.IntVar(&c.Size, "S", 1000, "`bytes` in a transfer")
	flag.IntVar(&c.Count, "C", 1000, "`transfers` each way in an iteration")
	flag.IntVar(&c.Iterations, "I", 1, "`iterations`")
	flag.BoolVar(&c.Verify, "verify", false, "compare the data, which the peer has to make with -T verify")
	flag.BoolVar(&c.tcp, "tcp", false, "plain TCP")
	flag.BoolVar(&c.device, "rnic", false, "through an RDMA device")
	flag.DurationVar(&device.Poll, "poll", 0, "with -rnic, `how` long to look for completions before sleep (rnic.Config.Poll)")
	flag.BoolVar(&c.crc, "crc", true, "ask for CRC32C on the connection")
	flag.IntVar(&c.revision, "mpa", 2, "MPA `revision`")
	flag.BoolVar(&c.first, "first", false, "end the stream without waiting for the peer to end it, as one of two of these programs has to")
	flag.DurationVar(&c.limit, "t", time.Minute, "limit for the whole run")
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), c.limit)
	defer cancel()
	if err := c.run(ctx, run); err != nil {
		log.Print(err)
		os.Exit(1)
	}
}

// run connects, has the transfers made, and ends the stream. What is left of it is read from the
// reader that transfers returns.
func (c *Config) run(ctx context.Context, transfers func(context.Context, *Config, net.Conn) (io.Reader, error)) error {
	if c.Size < 1 || c.Count < 1 || c.Iterations < 1 {
		return errors.New("size, transfers and iterations must be at least 1")
	}
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
	r, err := transfers(ctx, c, conn)
	if err != nil {
		return err
	}
	took := time.Since(begin)
	if c.first {
		if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			return err
		}
	}
	// The peer shuts down after the last transfer, so the stream ends by its word, not by a cut.
	if n, err := r.Read(make([]byte, c.Size)); n != 0 || err != io.EOF {
		return fmt.Errorf("after the last transfer: %d bytes and %v, want the end of the stream", n, err)
	}
	if err := conn.Close(); err != nil {
		return err
	}
	fmt.Printf("%d bytes each way in %v\n", c.Size*c.Count*c.Iterations, took)
	return nil
}

func (c *Config) connect(ctx context.Context) (net.Conn, error) {
	if c.device {
		return device.Connect(ctx, c.Server, c.bind, c.port)
	}
	policy, over := iwarp.OffloadRequire, []transport.Transport{soft.New(&soft.Config{NoCRC: !c.crc, AlwaysCRC: c.crc, Revision: c.revision})}
	if c.tcp {
		policy = iwarp.OffloadNever
	}
	if c.Server != "" {
		d := iwarp.Dialer{Offload: policy, Transports: over}
		return d.DialContext(ctx, "tcp", net.JoinHostPort(c.Server, c.port))
	}
	lc := iwarp.ListenConfig{Offload: policy, Transports: over}
	ln, err := lc.Listen(ctx, "tcp", net.JoinHostPort(c.bind, c.port))
	if err != nil {
		return nil, err
	}
	defer ln.Close()
	log.Printf("listening on %s", ln.Addr())
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	return ln.Accept()
}
