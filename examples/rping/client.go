package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/rdmanet/iwarp/transport"
)

var errMismatch = errors.New("the data that came back differs")

func (c *config) ping(ctx context.Context, t transport.Transport, addr netip.AddrPort) error {
	var local netip.AddrPort
	if c.source != "" {
		var err error
		if local, err = resolve(c.source, 0); err != nil {
			return err
		}
	}
	conn, err := t.Dial(ctx, local, addr, c.options())
	if err != nil {
		return err
	}
	defer conn.Close()
	qp := conn.QueuePair()
	e, err := newEndpoint(qp, c.size, transport.RemoteWrite)
	if err != nil {
		return err
	}
	source, sourceMR, err := register(qp, c.size, transport.RemoteRead)
	if err != nil {
		return err
	}
	if _, err := conn.Connect(ctx, nil); err != nil {
		return err
	}
	defer guard(ctx, qp)()
	defer qp.Close()
	if c.verbose {
		c.tell("connected to", qp)
	}
	for n := 0; c.count == 0 || n < c.count; n++ {
		fill(source, n)
		if err := c.pingOnce(e, sourceMR); err != nil {
			return fmt.Errorf("ping %d: %w", n, err)
		}
		if c.validate && !bytes.Equal(source, e.data) {
			return fmt.Errorf("ping %d: %w", n, errMismatch)
		}
		if c.verbose {
			fmt.Fprintf(c.stdout, "ping data: %s\n", text(e.data))
		}
	}
	return nil
}

func (c *config) pingOnce(e *endpoint, source transport.MemoryRegion) error {
	if e.mr == nil {
		var err error
		if e.data, e.mr, err = register(e.qp, c.size, transport.RemoteWrite); err != nil {
			return err
		}
	}
	advertise := func(mr transport.MemoryRegion) error {
		if err := e.send(info{offset: mr.Base(), stag: mr.STag(), length: uint32(mr.Len())}, 0); err != nil {
			return err
		}
		_, err := e.recv()
		return err
	}
	if err := advertise(source); err != nil {
		return err
	}
	if err := advertise(e.mr); err != nil {
		return err
	}
	if !c.invalidate {
		return nil
	}
	if e.invalidated != e.mr.STag() {
		return errors.New("the server did not revoke the sink: start it with -i as well")
	}
	e.mr = nil // its STag is spent
	return nil
}

// fill writes ping n: a head, then letters that start one further with each ping, and a NUL.
func fill(b []byte, n int) {
	const first, letters = 'A', 'z' - 'A' + 1
	head := copy(b, fmt.Sprintf("rdma-ping-%d: ", n))
	for i := range b[head:] {
		b[head+i] = byte(first + (n+i)%letters)
	}
	b[len(b)-1] = 0
}

// text is the data up to its first NUL.
func text(b []byte) []byte {
	s, _, _ := bytes.Cut(b, []byte{0})
	return s
}
