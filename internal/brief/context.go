// Package brief has contexts for what is usually over long before its time limit, as a handshake
// is: they cost next to nothing as long as nobody waits for their end.
package brief

import (
	"context"
	"net"
	"sync"
	"time"
)

// past is a deadline that makes a blocked call return.
var past = time.Unix(1, 0)

// A Context ends at its deadline, with its parent or by End. Only a Done channel that somebody has
// asked for needs a timer.
type Context struct {
	parent   context.Context
	deadline time.Time

	mu     sync.Mutex
	err    error         // why it has ended
	conn   net.Conn      // see Hold
	done   chan struct{} // nil until somebody asks for it
	timer  *time.Timer   // set with done
	unhook func() bool   // ends the wait for the parent, if there is one
}

// New returns a Context that ends at the deadline, or at that of parent if that is sooner. End must
// be called.
func New(parent context.Context, deadline time.Time) *Context {
	c := new(Context)
	c.Begin(parent, deadline)
	return c
}

// Begin makes of c, which must be zero, what New returns.
func (c *Context) Begin(parent context.Context, deadline time.Time) {
	if d, ok := parent.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	c.parent, c.deadline = parent, deadline
}

// Deadline implements context.Context.
func (c *Context) Deadline() (time.Time, bool) { return c.deadline, true }

// Value implements context.Context.
func (c *Context) Value(key any) any { return c.parent.Value(key) }

// Err implements context.Context.
func (c *Context) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch err := c.parent.Err(); {
	case c.err != nil:
	case err != nil:
		c.end(err)
	case !time.Now().Before(c.deadline):
		c.end(context.DeadlineExceeded)
	}
	return c.err
}

// Done implements context.Context.
func (c *Context) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done != nil {
		return c.done
	}
	c.done = make(chan struct{})
	if c.err != nil {
		close(c.done)
		return c.done
	}
	c.hook()
	c.timer = time.AfterFunc(time.Until(c.deadline), func() { c.endFor(context.DeadlineExceeded) })
	return c.done
}

// End ends the context, as a context.CancelFunc does.
func (c *Context) End() { c.endFor(context.Canceled) }

// Hold makes calls on conn time out once the context has ended, until Release. It leaves the
// deadline of the context to the caller.
func (c *Context) Hold(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn = conn
	if c.err != nil {
		_ = conn.SetDeadline(past)
		return
	}
	c.hook()
}

// Release ends what Hold began. The deadlines of the connection are the caller's again.
func (c *Context) Release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn = nil
}

// hook has the end of the parent end c. The caller holds mu.
func (c *Context) hook() {
	if c.unhook == nil && c.parent.Done() != nil {
		c.unhook = context.AfterFunc(c.parent, func() { c.endFor(c.parent.Err()) })
	}
}

func (c *Context) endFor(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end(err)
}

// end is endFor for a caller that holds mu.
func (c *Context) end(err error) {
	if c.err != nil {
		return
	}
	c.err = err
	if c.conn != nil {
		_ = c.conn.SetDeadline(past)
	}
	if c.done != nil {
		c.timer.Stop()
		close(c.done)
	}
	if c.unhook != nil {
		c.unhook()
	}
}
