// Riostream speaks the protocol of librdmacm's riostream over package iwarp, to be its peer in
// tests: each end exposes memory and writes into the other's. After 16 bytes of stream each way
// there are, in each iteration, a number of transfers from the client and as many from the server.
// The last byte of the last one is a marker, which the other end looks for in its memory.
package main

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/rdmanet"
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
	log.SetPrefix("riostream: ")
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
	if c.size < 1 || c.count < 1 || c.iterations < 1 {
		return errors.New("size, transfers and iterations must be at least 1")
	}
	nc, err := c.connect(ctx)
	if err != nil {
		return err
	}
	conn := nc.(*rdmanet.Conn) // as nothing else is allowed
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	begin := time.Now()
	// A whole number of words, as the last byte is looked at by its word.
	region, err := conn.Expose(0, (c.size+3)&^3)
	if err != nil {
		return err
	}
	region.Bytes()[c.size-1] = 0xff // no marker yet; the peer writes only after the synchronisation
	p := &peer{config: c, conn: conn, region: region, buf: make([]byte, c.size), deadline: deadline}
	if err := p.transfers(); err != nil {
		return err
	}
	if c.first {
		if err := conn.CloseWrite(); err != nil {
			return err
		}
	}
	// The peer shuts down after the last transfer, so the stream ends by its word, not by a cut.
	if n, err := conn.Read(p.buf); n != 0 || err != io.EOF {
		return fmt.Errorf("after the last transfer: %d bytes and %v, want the end of the stream", n, err)
	}
	if err := region.Close(); err != nil {
		return err
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

// peer is one end. What it sends counts up byte by byte, markers left out, and so should what it
// receives.
type peer struct {
	*config
	conn      *rdmanet.Conn
	region    *rdmanet.Region
	buf       []byte
	marker    byte // of the next transfer, whichever way it goes
	sent, got byte // first bytes of the next
	deadline  time.Time
}

func (p *peer) transfers() error {
	var sync [16]byte
	say := func() error {
		_, err := p.conn.Write(sync[:])
		return err
	}
	hear := func() error {
		_, err := io.ReadFull(p.conn, sync[:])
		return err
	}
	opening, steps := []func() error{say, hear}, []func() error{p.send, p.recv}
	if p.server == "" {
		opening, steps = []func() error{hear, say}, []func() error{p.recv, p.send}
	}
	for _, step := range opening {
		if err := step(); err != nil {
			return fmt.Errorf("synchronisation: %w", err)
		}
	}
	for range p.iterations {
		for _, step := range steps {
			if err := step(); err != nil {
				return err
			}
		}
	}
	return nil
}

// send makes the transfers of one iteration. All but the last end with the marker of before.
func (p *peer) send() error {
	last := len(p.buf) - 1
	p.buf[last] = p.marker - 1
	for i := range p.count {
		if i == p.count-1 {
			for j := range p.buf[:last] {
				p.buf[j] = p.sent
				p.sent++
			}
			p.buf[last] = p.marker
			p.marker++
		}
		if _, err := p.conn.WriteAt(p.buf, 0); err != nil {
			return err
		}
	}
	return nil
}

// recv waits until the marker is in the memory. The bytes of a transfer may be placed in any order,
// so it is complete when all of it is right.
func (p *peer) recv() error {
	last := len(p.buf) - 1
	mem := p.region.Bytes()
	word := (*uint32)(unsafe.Pointer(&mem[last&^3]))
	for {
		var b [4]byte
		binary.NativeEndian.PutUint32(b[:], atomic.LoadUint32(word))
		wrong := -1
		if b[last&3] != p.marker {
			wrong = last
		} else if p.verify {
			for i, v := range mem[:last] {
				if v != p.got+byte(i) {
					wrong = i
					break
				}
			}
		}
		if wrong < 0 {
			break
		}
		if time.Now().After(p.deadline) {
			return fmt.Errorf("marker %d: byte %d of the memory is still %#02x: %w", p.marker, wrong, mem[wrong], os.ErrDeadlineExceeded)
		}
		runtime.Gosched()
	}
	p.marker++
	p.got += byte(last)
	return nil
}
