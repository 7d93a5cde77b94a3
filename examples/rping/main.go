// Rping is the RDMA ping of librdmacm's rping, on package transport: a program at the level of
// verbs, with memory regions, RDMA Reads and Writes, Sends and completions of its own. It talks to
// the C program and to itself.
//
//	go run -C examples ./rping -s -a 127.0.0.1
//	go run -C examples ./rping -c -a 127.0.0.1 -C 10 -v -V
//
// For each ping the client advertises a source buffer, the server fetches it by RDMA Read and says
// go ahead; the client advertises a sink, the server puts the data there by RDMA Write and says go
// ahead.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/rnic"
	"github.com/rdmanet/iwarp/transport/soft"
)

// The sizes that the C program takes.
const (
	minSize = 26
	maxSize = 64<<10 - 1
)

type config struct {
	server, client, persistent bool
	address, source            string
	port, count, size          int
	verbose, validate          bool
	device, crc, invalidate    bool
	revision                   int
	stdout, stderr             io.Writer
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	c := config{stdout: os.Stdout, stderr: os.Stderr}
	if err := c.parse(os.Args[1:]); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			os.Exit(0)
		}
		fmt.Fprintln(os.Stderr, "rping:", err)
		os.Exit(2)
	}
	if err := c.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "rping:", err)
		os.Exit(1)
	}
}

func (c *config) parse(args []string) error {
	f := flag.NewFlagSet("rping", flag.ContinueOnError)
	f.SetOutput(c.stderr)
	f.BoolVar(&c.server, "s", false, "be the server")
	f.BoolVar(&c.client, "c", false, "be the client")
	f.BoolVar(&c.persistent, "P", false, "server: serve any number of connections")
	f.StringVar(&c.address, "a", "", "`address` of the server")
	f.StringVar(&c.source, "I", "", "client: source `address`")
	f.IntVar(&c.port, "p", 7174, "`port` of the server")
	f.IntVar(&c.count, "C", 0, "client: `number` of pings, 0 for no end")
	f.IntVar(&c.size, "S", 64, fmt.Sprintf("`bytes` in a ping, %d to %d", minSize, maxSize))
	f.BoolVar(&c.verbose, "v", false, "print the data")
	f.BoolVar(&c.validate, "V", false, "client: compare the data that comes back")
	f.BoolVar(&c.device, "rnic", false, "through an RDMA device")
	f.BoolVar(&c.crc, "crc", true, "ask for CRC32C on the connection")
	f.IntVar(&c.revision, "mpa", 2, "MPA `revision` to offer, or as a server the newest to accept: 1 or 2")
	f.BoolVar(&c.invalidate, "i", false, "Send with Invalidate revokes the sink after each ping; not in the C program, needed on both ends")
	if err := f.Parse(args); err != nil {
		return err
	}
	switch {
	case f.NArg() > 0:
		return fmt.Errorf("unexpected argument %q", f.Arg(0))
	case c.server == c.client:
		return errors.New("say either -s or -c")
	case c.client && c.address == "":
		return errors.New("the client needs the server's address: -a")
	case c.size < minSize || c.size > maxSize:
		return fmt.Errorf("size %d is out of range: %d to %d", c.size, minSize, maxSize)
	case c.revision != 1 && c.revision != 2:
		return fmt.Errorf("there is no MPA revision %d: 1 or 2", c.revision)
	case c.count < 0:
		return fmt.Errorf("count %d is negative", c.count)
	case c.port < 0 || c.port > 65535:
		return fmt.Errorf("port %d is out of range: 0 to 65535", c.port)
	}
	return nil
}

func (c *config) run(ctx context.Context) error {
	var t transport.Transport = soft.New(&soft.Config{Revision: c.revision})
	if c.device {
		t = rnic.New(nil)
	}
	addr, err := resolve(c.address, c.port)
	if err != nil {
		return err
	}
	if c.server {
		return c.serve(ctx, t, addr)
	}
	return c.ping(ctx, t, addr)
}

// options asks for what rping needs: few requests and one RDMA Read at a time.
func (c *config) options() *transport.Options {
	return &transport.Options{SendDepth: 16, RecvDepth: 2, IRD: 1, ORD: 1, NoCRC: !c.crc}
}

func resolve(host string, port int) (netip.AddrPort, error) {
	if host == "" {
		return netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(port)), nil
	}
	a, err := net.ResolveTCPAddr("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return netip.AddrPort{}, err
	}
	ap := a.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), nil
}

// tell says what two ends have agreed on.
func (c *config) tell(what string, qp transport.QueuePair) {
	a := qp.Attributes()
	fmt.Fprintf(c.stderr, "%s %s: crc=%t ird=%d ord=%d\n", what, qp.RemoteAddr(), a.CRC, a.IRD, a.ORD)
}
