package rdmanet

import (
	"net"
	"time"

	"github.com/rdmanet/iwarp/internal/instant"
)

// SetDeadline sets the deadlines of Read and Write, including those of calls under way. A time in
// the past makes them fail at once; the zero time means no deadline.
func (c *Conn) SetDeadline(t time.Time) error { return c.setDeadlines(t, &c.rd, &c.wr) }

// SetReadDeadline is SetDeadline for Read alone.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.setDeadlines(t, &c.rd) }

// SetWriteDeadline is SetDeadline for Write alone.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.setDeadlines(t, &c.wr) }

func (c *Conn) setDeadlines(t time.Time, sides ...*side) error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return c.setError(net.ErrClosed)
	}
	interrupt := false
	for _, s := range sides {
		s.deadline = instant.Of(t)
		interrupt = c.interrupts(s) || interrupt
	}
	c.mu.Unlock()
	if interrupt {
		c.qp.Interrupt()
	}
	return nil
}
