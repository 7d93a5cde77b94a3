package main

import (
	"context"
	"fmt"
	"net/netip"
	"sync"

	"github.com/rdmanet/iwarp/transport"
)

func (c *config) serve(ctx context.Context, t transport.Transport, addr netip.AddrPort) error {
	ln, err := t.Listen(ctx, addr, c.options())
	if err != nil {
		return err
	}
	defer ln.Close()
	fmt.Fprintf(c.stderr, "listening on %s\n", ln.Addr())
	var conns sync.WaitGroup
	defer conns.Wait()
	for {
		req, err := ln.Accept(ctx)
		if err != nil {
			return err
		}
		if !c.persistent {
			return c.serveOne(ctx, req)
		}
		conns.Go(func() {
			if err := c.serveOne(ctx, req); err != nil {
				fmt.Fprintln(c.stderr, "rping:", err)
			}
		})
	}
}

// serveOne answers the pings of one connection until the client hangs up.
func (c *config) serveOne(ctx context.Context, req transport.Request) error {
	qp := req.QueuePair()
	e, err := newEndpoint(qp, c.size, transport.LocalWrite)
	if err != nil {
		_ = req.Reject(nil)
		return err
	}
	if err := req.Accept(ctx, nil); err != nil {
		return err
	}
	defer guard(ctx, qp)()
	defer qp.Close()
	if c.verbose {
		c.tell("accepted", qp)
	}
	for {
		source, err := e.recv()
		if disconnected(err) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := c.answer(e, source); err != nil {
			return fmt.Errorf("ping of %s: %w", qp.RemoteAddr(), err)
		}
	}
}

func (c *config) answer(e *endpoint, source info) error {
	if int64(source.length) > int64(len(e.data)) {
		return fmt.Errorf("the client pings with %d bytes: start this server with -S %d", source.length, source.length)
	}
	if err := e.read(source); err != nil {
		return err
	}
	data := text(e.data[:source.length])
	if c.verbose {
		fmt.Fprintf(c.stdout, "server ping data: %s\n", data)
	}
	if err := e.send(info{}, 0); err != nil {
		return err
	}
	sink, err := e.recv()
	if err != nil {
		return err
	}
	n := min(len(data)+1, int(source.length)) // with its NUL
	if int64(sink.length) < int64(n) {
		return fmt.Errorf("the client's sink of %d bytes is too small for %d", sink.length, n)
	}
	if err := e.write(sink, n); err != nil {
		return err
	}
	var revoke transport.STag
	if c.invalidate {
		revoke = sink.stag
	}
	return e.send(info{}, revoke)
}
