package soft

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/internal/setup"
	"github.com/rdmanet/iwarp/transport/soft/internal/mpa"
)

// Server reads the MPA request from an accepted connection, which from then on belongs to the
// Request; on an error it is closed. Server takes no longer than Config.RequestTimeout. Nothing
// must have been sent or received on the connection (a look with MSG_PEEK is fine).
func (t *Transport) Server(ctx context.Context, c *net.TCPConn, o *transport.Options) (transport.Request, error) {
	q, err := newQueuePair(c, &t.cfg, o)
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	r := &request{q: q}
	x := setup.Begin(ctx, c, t.cfg.RequestTimeout)
	frame, rest, err := readFrame(c, false, &r.room)
	r.frame, err = frame, x.End(err)
	switch {
	case err == nil && r.frame.Flags&mpa.FlagMarkers != 0:
		err = errMarkers
	case err == nil && int(r.frame.Revision) > t.cfg.Revision:
		err = mpa.ErrRevision
	case err == nil && len(rest) > 0:
		// The initiator must be silent until it has the reply (RFC 5044 §7.1.2).
		_ = q.Abort()
		return nil, handshakeError(mpa.ErrTrailing)
	}
	if err != nil {
		if errors.Is(err, errMarkers) || errors.Is(err, mpa.ErrRevision) || errors.Is(err, mpa.ErrEnhanced) {
			_ = r.refuse(nil)
		} else {
			_ = q.Close()
		}
		return nil, handshakeError(err)
	}
	return r, nil
}

type request struct {
	q     *queuePair
	frame mpa.Frame
	room  room
}

func (r *request) PrivateData() []byte            { return r.frame.PrivateData }
func (r *request) QueuePair() transport.QueuePair { return r.q }

func (r *request) Accept(ctx context.Context, private []byte) error {
	if err := r.q.mayBegin(); err != nil {
		return err
	}
	if r.q.sock.peerGone() {
		_ = r.q.Abort()
		return handshakeError(io.EOF)
	}
	if err := r.q.answer(ctx, &r.frame, private); err != nil {
		_ = r.q.Close()
		return err
	}
	return nil
}

func (r *request) Reject(private []byte) error {
	if err := r.q.mayBegin(); err != nil {
		return err
	}
	return r.refuse(private)
}

// refuse answers with a reject and ends the connection so that the peer has the frame before it
// sees the end.
func (r *request) refuse(private []byte) error {
	f := rejectFrame(&r.frame, private)
	err := setup.Within(context.Background(), r.q.sock.c, time.Second, func() error { return writeFrame(r.q.sock.c, &f) })
	_ = r.q.sock.c.CloseWrite()
	_ = r.q.Close()
	return err
}

// Listen implements transport.Transport.
func (t *Transport) Listen(ctx context.Context, local netip.AddrPort, o *transport.Options) (transport.Listener, error) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	ln, err := lc.Listen(ctx, "tcp", local.String())
	if err != nil {
		return nil, err
	}
	l := &listener{t: t, o: o, ln: ln.(*net.TCPListener), requests: make(chan *request), done: make(chan struct{})}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.wg.Add(1)
	go l.serve()
	return l, nil
}

// A listener reads MPA requests off the accept path, so that a silent peer delays nobody.
type listener struct {
	t        *Transport
	o        *transport.Options
	ln       *net.TCPListener
	requests chan *request
	done     chan struct{} // closed when serve has ended
	err      error         // why
	ctx      context.Context
	cancel   context.CancelFunc
	wg       sync.WaitGroup
}

func (l *listener) serve() {
	defer l.wg.Done()
	defer close(l.done)
	waiting := setup.NewHalfOpen(l.t.cfg.MaxHalfOpen)
	for {
		c, err := l.ln.AcceptTCP()
		if err != nil {
			if t, ok := err.(interface{ Temporary() bool }); ok && t.Temporary() && l.ctx.Err() == nil {
				select {
				case <-time.After(5 * time.Millisecond):
				case <-l.ctx.Done():
				}
				continue
			}
			l.err = err
			return
		}
		a := &setup.Arrival{Reset: func() { _ = c.SetLinger(0) }}
		if !waiting.Attend(l.ctx, &l.wg, a, func(ctx context.Context) { l.attend(ctx, waiting, c, a) }) {
			_ = c.Close() // the listener is closed
		}
	}
}

// attend reads the request of a and hands it to Accept.
func (l *listener) attend(ctx context.Context, waiting *setup.HalfOpen, c *net.TCPConn, a *setup.Arrival) {
	req, err := l.t.Server(ctx, c, l.o)
	if err != nil {
		return
	}
	r := req.(*request)
	if !waiting.Spoken(a) {
		_ = r.q.Abort()
		return
	}
	select {
	case l.requests <- r:
	case <-l.ctx.Done():
		_ = r.Reject(nil)
	}
}

func (l *listener) Accept(ctx context.Context) (transport.Request, error) {
	select {
	case <-l.done:
		return nil, l.err
	default:
	}
	select {
	case r := <-l.requests:
		return r, nil
	case <-l.done:
		return nil, l.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *listener) Addr() netip.AddrPort { return addrPort(l.ln.Addr()) }

func (l *listener) Close() error {
	err := l.ln.Close()
	l.cancel()
	l.wg.Wait()
	return err
}

func isEnd(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }
