// Stream is the peer, over package iwarp, of cstream/stream.c, and takes the same options: each
// connection carries -s bytes from this end and -r bytes to it, at once, and every byte is
// compared. With -q there are round trips instead.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/test/kernel/internal/device"
	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/soft"
)

type config struct {
	listen, dial, port string
	send, receive      int64
	chunk              int
	end                string
	connections, trips int
	idle               time.Duration
	tcp, crc           bool
	device, front      bool
	revision           int
	limit              time.Duration
	fails              string
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("stream: ")
	var c config
	flag.StringVar(&c.listen, "l", "", "`address` to listen on")
	flag.StringVar(&c.dial, "c", "", "`address` to connect to")
	flag.StringVar(&c.port, "p", "7471", "`port`")
	flag.Int64Var(&c.send, "s", 0, "`bytes` to send")
	flag.Int64Var(&c.receive, "r", 0, "`bytes` to receive")
	flag.IntVar(&c.chunk, "w", 65536, "`bytes` in a write, or each way in a round trip")
	flag.StringVar(&c.end, "e", "half", "`how` the stream ends: half, this end finishes writing and reads on; last, it finishes writing after the peer; close, it closes as soon as all is sent")
	flag.IntVar(&c.connections, "n", 1, "`connections`, one after the other")
	flag.IntVar(&c.trips, "q", 0, "round `trips`, in place of a stream")
	flag.Func("z", "`milliseconds` in which this end does nothing at first", func(s string) (err error) {
		c.idle, err = time.ParseDuration(s + "ms")
		return err
	})
	flag.BoolVar(&c.tcp, "t", false, "plain TCP")
	flag.BoolVar(&c.device, "rnic", false, "through an RDMA device, on the very port")
	flag.DurationVar(&device.Poll, "poll", 0, "with -rnic, `how` long to look for completions before sleep (rnic.Config.Poll)")
	flag.BoolVar(&c.front, "front", false, "as package iwarp does it by the policy in IWARP_OFFLOAD, with devices")
	flag.BoolVar(&c.crc, "crc", true, "ask for CRC32C on the connection")
	flag.IntVar(&c.revision, "mpa", 2, "MPA `revision`")
	flag.DurationVar(&c.limit, "d", 10*time.Minute, "limit for the whole run")
	flag.StringVar(&c.fails, "fails", "", "succeed if the stream breaks with an error that matches one of these, of eof, reset, timeout, separated by commas")
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), c.limit)
	defer cancel()
	err := c.run(ctx)
	switch {
	case c.fails == "" && err == nil:
	case c.fails != "" && matches(err, c.fails):
		log.Printf("broke as expected: %v", err)
	default:
		log.Fatalf("%v", err)
	}
}

func (c *config) run(ctx context.Context) error {
	connect, stop, err := c.connector(ctx)
	if err != nil {
		return err
	}
	defer stop()
	begin := time.Now()
	buf := make([]byte, most)
	for i := range c.connections {
		conn, err := connect()
		if err != nil {
			return fmt.Errorf("connection %d: %w", i, err)
		}
		if i == 0 {
			begin = time.Now()
			info, _ := iwarp.Describe(conn)
			log.Printf("%s %s: %+v", conn.LocalAddr(), conn.RemoteAddr(), info)
		}
		if err := c.talk(ctx, conn, buf); err != nil {
			_ = conn.Close()
			return fmt.Errorf("connection %d: %w", i, err)
		}
		// This program may end right after Close.
		if err := conn.(interface{ SetLinger(int) error }).SetLinger(30); err != nil {
			return err
		}
		if err := conn.Close(); err != nil {
			return err
		}
	}
	fmt.Printf("%d connections, %d bytes sent, %d received on each, %d us\n", c.connections, c.send, c.receive, time.Since(begin).Microseconds())
	return nil
}

func (c *config) talk(ctx context.Context, conn net.Conn, buf []byte) error {
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	if c.trips > 0 {
		return c.roundTrips(conn, buf)
	}
	return c.bothWays(conn, buf)
}

// connector returns what makes connections, by the role.
func (c *config) connector(ctx context.Context) (connect func() (net.Conn, error), stop func(), err error) {
	if c.device {
		return c.viaDevice(ctx)
	}
	policy, over := iwarp.OffloadRequire, []transport.Transport{soft.New(&soft.Config{NoCRC: !c.crc, AlwaysCRC: c.crc, Revision: c.revision})}
	switch {
	case c.tcp:
		policy, over = iwarp.OffloadNever, nil
	case c.front:
		policy, over = iwarp.OffloadAuto, nil
	}
	if c.dial != "" {
		// An emulated machine answers too late for what a dial that may fall back waits by itself.
		d := iwarp.Dialer{Offload: policy, Transports: over, HandshakeTimeout: 10 * time.Second}
		return func() (net.Conn, error) { return d.DialContext(ctx, "tcp", net.JoinHostPort(c.dial, c.port)) }, func() {}, nil
	}
	lc := iwarp.ListenConfig{Offload: policy, Transports: over, FirstByteTimeout: 10 * time.Second}
	ln, err := lc.Listen(ctx, "tcp", net.JoinHostPort(c.listen, c.port))
	if err != nil {
		return nil, nil, err
	}
	log.Printf("listening on %s", ln.Addr())
	cut := context.AfterFunc(ctx, func() { _ = ln.Close() })
	return ln.Accept, func() { cut(); _ = ln.Close() }, nil
}

func (c *config) viaDevice(ctx context.Context) (connect func() (net.Conn, error), stop func(), err error) {
	if c.dial != "" {
		return func() (net.Conn, error) { return device.Dial(ctx, net.JoinHostPort(c.dial, c.port)) }, func() {}, nil
	}
	return device.Listen(ctx, net.JoinHostPort(c.listen, c.port))
}

func (c *config) bothWays(conn net.Conn, buf []byte) error {
	time.Sleep(c.idle)
	sent := make(chan error, 1)
	go func() { sent <- c.sendAll(conn) }()
	got := int64(0)
	err := receive(conn, buf, &got, c.receive)
	if err != nil {
		_ = conn.SetWriteDeadline(time.Now())
		return errors.Join(err, <-sent)
	}
	if err := <-sent; err != nil {
		return err
	}
	if c.end == "close" {
		return nil
	}
	if n, err := conn.Read(buf); n != 0 || err != io.EOF {
		return fmt.Errorf("after %d bytes: %d more and %w, want the end of the stream", got, n, err)
	}
	if c.end == "last" {
		return closeWrite(conn)
	}
	return nil
}

func closeWrite(conn net.Conn) error { return conn.(interface{ CloseWrite() error }).CloseWrite() }

func (c *config) sendAll(conn net.Conn) error {
	for sent := int64(0); sent < c.send; {
		n := min(int64(c.chunk), c.send-sent)
		at := sent % period
		k, err := conn.Write(pattern[at : at+n])
		sent += int64(k)
		if err != nil {
			return fmt.Errorf("after %d bytes sent: %w", sent, err)
		}
	}
	if c.end == "half" {
		return closeWrite(conn)
	}
	return nil
}

func (c *config) roundTrips(conn net.Conn, buf []byte) error {
	took := make([]time.Duration, c.trips)
	for i := range took {
		begin := time.Now()
		if c.dial != "" {
			if _, err := conn.Write(pattern[:c.chunk]); err != nil {
				return err
			}
		}
		got := int64(0)
		if err := receive(conn, buf, &got, int64(c.chunk)); err != nil {
			return err
		}
		if c.dial == "" {
			if _, err := conn.Write(pattern[:c.chunk]); err != nil {
				return err
			}
		}
		took[i] = time.Since(begin)
	}
	if c.dial != "" {
		slices.Sort(took)
		fmt.Printf("p50 %.1f us\n", float64(took[len(took)/2].Nanoseconds())/1e3)
		if err := closeWrite(conn); err != nil {
			return err
		}
	}
	if n, err := conn.Read(buf); n != 0 || err != io.EOF {
		return fmt.Errorf("after the last round trip: %d bytes and %w, want the end of the stream", n, err)
	}
	return nil
}

// receive takes and compares bytes until there are n.
func receive(conn net.Conn, buf []byte, got *int64, n int64) error {
	for *got < n {
		k, err := conn.Read(buf[:min(int64(len(buf)), n-*got)])
		at := *got % period
		if string(buf[:k]) != string(pattern[at:at+int64(k)]) {
			return fmt.Errorf("wrong data in the %d bytes from byte %d on", k, *got)
		}
		*got += int64(k)
		if err != nil {
			return fmt.Errorf("after %d bytes received: %w", *got, err)
		}
	}
	return nil
}

const (
	period = 65521
	most   = 4 << 20
)

// pattern is the stream, byte i being pattern[i%period], in a form that every read fits into.
var pattern = func() []byte {
	p := make([]byte, period, period+most)
	x := uint32(1)
	for i := range p {
		x = x*1664525 + 1013904223
		p[i] = byte(x >> 24)
	}
	for len(p) < cap(p) {
		p = append(p, p[:min(period, cap(p)-len(p))]...)
	}
	return p
}()

// matches reports whether err is one of the kinds that are named.
func matches(err error, kinds string) bool {
	for kind := range strings.SplitSeq(kinds, ",") {
		switch kind {
		case "eof":
			if errors.Is(err, io.ErrUnexpectedEOF) {
				return true
			}
		case "reset":
			if errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
				return true
			}
		case "timeout":
			if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, syscall.ETIMEDOUT) {
				return true
			}
		}
	}
	return false
}
