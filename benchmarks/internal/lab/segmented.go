package lab

import (
	"context"
	"net"
	"time"

	"github.com/rdmanet/iwarp/rdmanet"
	"github.com/rdmanet/iwarp/transport/soft"
)

// segmented is software iWARP with FPDUs of at most so many bytes, which only package rdmanet can
// ask for.
func segmented(name string, t *soft.Transport, bytes int) Path {
	p := plain(name)
	dial, listen := p.Dial, p.Listen
	cfg := &rdmanet.Config{MaxSegment: bytes}
	p.Dial = func(ctx context.Context, address string) (net.Conn, error) {
		c, err := dial(ctx, address)
		if err != nil {
			return nil, err
		}
		k, err := t.Client(c.(*net.TCPConn), nil)
		if err != nil {
			return nil, err
		}
		s, err := rdmanet.Client(ctx, k, cfg)
		if err != nil {
			return nil, err
		}
		return s, nil
	}
	p.Listen = func(ctx context.Context, address string) (net.Listener, error) {
		l, err := listen(ctx, address)
		if err != nil {
			return nil, err
		}
		return &segmentedListener{l, t, cfg}, nil
	}
	return p
}

type segmentedListener struct {
	net.Listener
	over *soft.Transport
	cfg  *rdmanet.Config
}

// Accept waits for the whole set-up of one connection after the other, and leaves out those whose
// set-up fails.
func (l *segmentedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if s, err := l.setUp(c.(*net.TCPConn)); err == nil {
			return s, nil
		}
	}
}

func (l *segmentedListener) setUp(c *net.TCPConn) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	r, err := l.over.Server(ctx, c, nil)
	if err != nil {
		return nil, err
	}
	return rdmanet.Server(ctx, r, l.cfg)
}
