package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/rdmanet/iwarp/transport"
)

// depth is how many messages can arrive before they are looked at.
const depth = 64

// A link is a connection with receives for messages of up to size bytes, and memory for the peer if
// access says so.
type link struct {
	qp     transport.QueuePair
	size   int
	in     []byte
	inMR   transport.MemoryRegion
	memory []byte
	mr     transport.MemoryRegion
	ended  []transport.Completion // polled, but not awaited yet
}

// newLink prepares a connection in the making: the peer may send as soon as it knows of it.
func newLink(qp transport.QueuePair, size int, access transport.Access) (*link, error) {
	// The peer spreads its messages over a page or so of the memory.
	l := &link{qp: qp, size: size, in: make([]byte, depth*size), memory: make([]byte, 4*max(size, 4096))}
	var err error
	if l.inMR, err = qp.RegisterMemory(l.in, transport.LocalWrite); err != nil {
		return nil, err
	}
	if l.mr, err = qp.RegisterMemory(l.memory, access|transport.LocalWrite); err != nil {
		return nil, err
	}
	for i := range uint64(depth) {
		if err := l.receive(i); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// dial connects. The peer's listener is away for a moment between the two connections.
func dial(ctx context.Context, t transport.Transport, addr netip.AddrPort, o *transport.Options, size int, access transport.Access) (*link, error) {
	for tick := time.NewTicker(50 * time.Millisecond); ; {
		c, err := t.Dial(ctx, netip.AddrPort{}, addr, o)
		if errors.Is(err, syscall.ECONNREFUSED) {
			select {
			case <-tick.C:
				continue
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		if err != nil {
			return nil, err
		}
		l, err := newLink(c.QueuePair(), size, access)
		if err != nil {
			return nil, errors.Join(err, c.Close())
		}
		// A network that takes the connection before it asks the peer refuses it late.
		if _, err := c.Connect(ctx, nil); errors.Is(err, transport.ErrNotIWARP) && ctx.Err() == nil {
			<-tick.C
			continue
		} else if err != nil {
			return nil, err
		}
		context.AfterFunc(ctx, func() { _ = l.qp.Abort() })
		return l, nil
	}
}

func accept(ctx context.Context, ln transport.Listener, size int, access transport.Access) (*link, error) {
	r, err := ln.Accept(ctx)
	if err != nil {
		return nil, err
	}
	l, err := newLink(r.QueuePair(), size, access)
	if err != nil {
		return nil, errors.Join(err, r.Reject(nil))
	}
	if err := r.Accept(ctx, nil); err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { _ = l.qp.Abort() })
	return l, nil
}

// receive posts the buffer with the number.
func (l *link) receive(slot uint64) error {
	_, err := l.qp.PostRecv([]transport.RecvWR{{ID: slot, Data: l.in[int(slot)*l.size:][:l.size], Region: l.inMR}})
	return err
}

// send sends a message and waits until it has left.
func (l *link) send(b []byte) error {
	if err := l.post(transport.SendWR{Opcode: transport.OpSend, Flags: transport.Inline, Data: b}); err != nil {
		return err
	}
	_, err := l.await(transport.OpSend)
	return err
}

// hear waits for a message of exactly len(b) bytes.
func (l *link) hear(b []byte) error {
	c, err := l.await(transport.OpRecv)
	if err != nil {
		return err
	}
	if c.Bytes != len(b) {
		return fmt.Errorf("a message of %d bytes, want %d", c.Bytes, len(b))
	}
	copy(b, l.in[int(c.ID)*l.size:])
	return l.receive(c.ID)
}

func (l *link) post(wr transport.SendWR) error {
	wr.Flags |= transport.Signaled
	if _, err := l.qp.PostSend([]transport.SendWR{wr}); err != nil {
		return l.cause(err)
	}
	return nil
}

// await waits for the end of a request of the kind.
func (l *link) await(op transport.Opcode) (transport.Completion, error) {
	for {
		if i := slices.IndexFunc(l.ended, func(c transport.Completion) bool { return c.Opcode == op }); i >= 0 {
			c := l.ended[i]
			l.ended = slices.Delete(l.ended, i, i+1)
			if c.Status != transport.StatusSuccess {
				return c, l.cause(fmt.Errorf("%v failed: %v", op, c.Status))
			}
			return c, nil
		}
		var wc [16]transport.Completion
		n := l.qp.Poll(wc[:])
		l.ended = append(l.ended, wc[:n]...)
		if n == 0 {
			if err := l.qp.Wait(time.Time{}); err != nil {
				return transport.Completion{}, l.cause(err)
			}
		}
	}
}

// farewell waits for the peer to end the connection, as it may fail if that ends before it has
// looked at its last completion.
func (l *link) farewell() {
	for deadline := time.Now().Add(2 * time.Second); l.qp.Err() == nil && time.Now().Before(deadline); {
		_ = l.qp.Wait(deadline)
		l.qp.Poll(make([]transport.Completion, 16))
	}
	_ = l.qp.Close()
}

// cause returns why the connection is over, if it is, else err.
func (l *link) cause(err error) error {
	if why := l.qp.Err(); why != nil {
		return why
	}
	return err
}
