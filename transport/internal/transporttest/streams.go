package transporttest

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/net/nettest"

	"github.com/rdmanet/iwarp/rdmanet"
	"github.com/rdmanet/iwarp/transport"
)

// Streams makes a connection to l.
func Streams(ctx context.Context, tr transport.Transport, l transport.Listener) (client, server *rdmanet.Conn, err error) {
	type result struct {
		c   *rdmanet.Conn
		err error
	}
	accepted := make(chan result, 1)
	go func() {
		req, err := l.Accept(ctx)
		if err != nil {
			accepted <- result{nil, fmt.Errorf("accept: %w", err)}
			return
		}
		c, err := rdmanet.Server(ctx, req, nil)
		if err != nil {
			err = fmt.Errorf("server: %w", err)
		}
		accepted <- result{c, err}
	}()
	k, err := tr.Dial(ctx, netip.AddrPort{}, l.Addr(), nil)
	if err != nil {
		return nil, nil, fmt.Errorf("dial: %w", err)
	}
	c, err := rdmanet.Client(ctx, k, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("client: %w", err)
	}
	s := <-accepted
	if s.err != nil {
		_ = c.Close()
		return nil, nil, s.err
	}
	return c, s.c, nil
}

// Conn runs package nettest's tests on connections of tr to listenAt.
func Conn(t *testing.T, tr transport.Transport, listenAt netip.AddrPort) {
	nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
		ctx, cancel := context.WithTimeout(context.Background(), Limit)
		defer cancel()
		l, err := tr.Listen(ctx, listenAt, nil)
		if err != nil {
			return nil, nil, nil, err
		}
		defer l.Close()
		a, b, err := Streams(ctx, tr, l)
		if err != nil {
			return nil, nil, nil, err
		}
		return a, b, func() {
			_ = a.Close()
			_ = b.Close()
		}, nil
	})
}
