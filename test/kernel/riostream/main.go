// Riostream speaks the protocol of librdmacm's riostream over package iwarp, to be its peer in
// tests: each end exposes memory and writes into the other's. After 16 bytes of stream each way
// there are, in each iteration, a number of transfers from the client and as many from the server.
// The last byte of the last one is a marker, which the other end looks for in its memory.
package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/rdmanet/iwarp/rdmanet"
	"github.com/rdmanet/iwarp/test/kernel/internal/transfers"
)

func main() { transfers.Main("riostream", run) }

func run(ctx context.Context, c *transfers.Config, nc net.Conn) (io.Reader, error) {
	conn := nc.(*rdmanet.Conn) // as nothing else is allowed
	// A whole number of words, as the last byte is looked at by its word.
	region, err := conn.Expose(0, (c.Size+3)&^3)
	if err != nil {
		return nil, err
	}
	region.Bytes()[c.Size-1] = 0xff // no marker yet; the peer writes only after the synchronisation
	p := &peer{Config: c, conn: conn, region: region, buf: make([]byte, c.Size)}
	p.deadline, _ = ctx.Deadline()
	return conn, p.transfers()
}

// peer is one end. What it sends counts up byte by byte, markers left out, and so should what it
// receives.
type peer struct {
	*transfers.Config
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
	if p.Server == "" {
		opening, steps = []func() error{hear, say}, []func() error{p.recv, p.send}
	}
	for _, step := range opening {
		if err := step(); err != nil {
			return fmt.Errorf("synchronisation: %w", err)
		}
	}
	for range p.Iterations {
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
	for i := range p.Count {
		if i == p.Count-1 {
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
		} else if p.Verify {
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
