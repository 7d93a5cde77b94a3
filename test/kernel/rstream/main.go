// Rstream speaks the protocol of librdmacm's rstream over package iwarp, to be its peer in tests:
// 16 bytes each way, then in each iteration a number of transfers from the client and as many from
// the server, and an orderly close.
package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"

	"github.com/rdmanet/iwarp/test/kernel/internal/transfers"
)

func main() { transfers.Main("rstream", run) }

func run(_ context.Context, c *transfers.Config, conn net.Conn) (io.Reader, error) {
	p := &peer{conn: conn, r: bufio.NewReaderSize(conn, 1<<16), buf: make([]byte, max(c.Size, syncSize)), verify: c.Verify}
	return p.r, p.transfers(c)
}

const syncSize = 16

// peer is one end of the stream. With verify what it sends counts up byte by byte over the whole
// connection, and so should what it receives; else nobody looks at the bytes, as in rstream.
type peer struct {
	conn      io.Writer
	r         *bufio.Reader
	buf       []byte
	sent, got uint64
	verify    bool
}

func (p *peer) transfers(c *transfers.Config) error {
	steps := []func(int) error{p.send, p.recv}
	if c.Server == "" {
		steps[0], steps[1] = steps[1], steps[0]
	}
	for _, step := range steps {
		if err := step(syncSize); err != nil {
			return fmt.Errorf("synchronisation: %w", err)
		}
	}
	for range c.Iterations {
		for _, step := range steps {
			for range c.Count {
				if err := step(c.Size); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (p *peer) send(n int) error {
	b := p.buf[:n]
	if p.verify {
		for i := range b {
			b[i] = byte(p.sent + uint64(i))
		}
	}
	if _, err := p.conn.Write(b); err != nil {
		return fmt.Errorf("after %d bytes sent: %w", p.sent, err)
	}
	p.sent += uint64(n)
	return nil
}

func (p *peer) recv(n int) error {
	b := p.buf[:n]
	if _, err := io.ReadFull(p.r, b); err != nil {
		return fmt.Errorf("after %d bytes received: %w", p.got, err)
	}
	if p.verify {
		for i, v := range b {
			if want := byte(p.got + uint64(i)); v != want {
				return fmt.Errorf("byte %d is %#02x, want %#02x", p.got+uint64(i), v, want)
			}
		}
	}
	p.got += uint64(n)
	return nil
}
