// Package setup has what listeners and dials of transports over sockets do alike until a connection
// is up: the bound on half-open connections, and the time limit of a handshake.
package setup

import (
	"context"
	"errors"
	"net"
	"os"
	"time"

	"github.com/rdmanet/iwarp/transport"
)

// past is a deadline that makes a blocked call return.
var past = time.Unix(1, 0)

// A Holder is a context that, once it has ended, makes calls on a connection time out by itself.
// That costs less than to wait for its Done.
type Holder interface {
	context.Context
	// Hold begins with that. What the connection has for a deadline is left to the caller.
	Hold(net.Conn)
	// Release ends it: once it has returned, the deadlines of the connection are the caller's.
	Release()
}

// An Exchange is what one end says and hears on a connection under a deadline and a context.
type Exchange struct {
	ctx    context.Context
	limit  *limit // nil where the deadline had passed at the beginning
	holder Holder
	stop   func() bool   // nil if there is nothing to stop
	kicked chan struct{} // closed once ctx has ended the exchange
}

// Begin begins an exchange on c. The deadlines of c are the exchange's until End.
func Begin(ctx context.Context, c net.Conn, limit time.Duration) (x Exchange) {
	end := time.Now().Add(limit)
	if d, ok := ctx.Deadline(); ok && d.Before(end) {
		end = d
	}
	x.ctx = ctx
	if time.Now().Before(end) {
		_ = c.SetDeadline(time.Time{})
		x.limit = limits.add(c, end)
	} else {
		_ = c.SetDeadline(past)
	}
	if h, ok := ctx.(Holder); ok {
		x.holder = h
		h.Hold(c)
	} else if ctx.Done() != nil {
		x.watch(c)
	}
	return x
}

func (x *Exchange) watch(c net.Conn) {
	kicked := make(chan struct{})
	x.kicked = kicked
	x.stop = context.AfterFunc(x.ctx, func() {
		_ = c.SetDeadline(past)
		close(kicked)
	})
}

// End ends the exchange, which has ended with err, and returns err, or the context's error or
// ErrHandshakeTimeout where one of them has led to it.
func (x *Exchange) End(err error) error {
	// Nothing here must set deadlines in the connection's later life.
	if x.limit != nil {
		limits.remove(x.limit)
	}
	switch {
	case x.holder != nil:
		x.holder.Release()
	case x.stop != nil && !x.stop():
		<-x.kicked
	}
	switch {
	case err == nil:
		return nil
	case x.ctx.Err() != nil:
		return x.ctx.Err()
	case !errors.Is(err, os.ErrDeadlineExceeded):
		return err
	}
	// A context may notice its deadline a moment after the connection has.
	if d, ok := x.ctx.Deadline(); ok && !time.Now().Before(d) {
		return context.DeadlineExceeded
	}
	return transport.ErrHandshakeTimeout
}

// Within runs f as an exchange on c.
func Within(ctx context.Context, c net.Conn, limit time.Duration, f func() error) error {
	x := Begin(ctx, c, limit)
	return x.End(f())
}
