package rdmanet

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// Read reads what has arrived, up to len(b) bytes and across messages; it waits only if there is
// nothing. The error is io.EOF itself once the peer has finished and everything is read, otherwise
// a *net.OpError. With an empty b it returns at once, with an error only if the connection is
// closed. All of b may be used as scratch space, also where it returns less, or an error.
func (c *Conn) Read(b []byte) (int, error) {
	if !c.calls.begin() {
		return 0, c.failed("read", net.ErrClosed)
	}
	c.rd.lock.Lock()
	defer c.endCall(&c.rd)
	if deadline, ok := c.mayWait(b); ok {
		c.driven(c.qp.Wait(deadline)) // from here, as every call in between costs much on the way back
	}
	n, err := c.read(b)
	return n, c.failed("read", err)
}

// mayWait reports whether all that there is to do for Read is to wait for the queue pair, until the
// deadline. It has become the driver then, and what arrives is placed in b.
func (c *Conn) mayWait(b []byte) (deadline time.Time, ok bool) {
	c.mu.Lock()
	if len(b) == 0 || c.ring.Available() > 0 || c.driver != nobody || c.closed || c.readClosed || c.err() != nil ||
		c.own.disconnected() || c.peer.finished() || c.rd.deadline.Passed() || c.grantDue(2) {
		c.mu.Unlock()
		return deadline, false
	}
	c.ring.Attach(b)
	c.driver = reader
	if c.placer != nil {
		c.placer.reading.Store(c)
	}
	deadline = c.rd.deadline.Time()
	c.mu.Unlock()
	return deadline, true
}

// read does the work of Read. The caller holds the side's lock.
func (c *Conn) read(b []byte) (n int, err error) {
	c.mu.Lock()
	if c.closed || c.ring.Available() == 0 || len(b) == 0 || c.rd.deadline != 0 {
		err = c.awaitData(b, len(b) == 0)
	}
	n = c.ring.Detach()
	// What was there before, or did not fit, is copied without the lock.
	for err == nil && n < len(b) {
		p := c.ring.Front()
		if len(p) == 0 {
			break
		}
		c.mu.Unlock()
		k := copy(b[n:], p)
		c.mu.Lock()
		c.ring.Drop(k)
		n += k
	}
	if n > 0 {
		err = nil
	}
	c.consumed(n)
	return n, err
}

// awaitData returns nil when bytes can be read from the ring, or from the front of b, where they
// may be placed while it waits. With noWait it only looks at the connection. The caller holds mu.
func (c *Conn) awaitData(b []byte, noWait bool) error {
	for given, looked := false, false; ; {
		// As with a socket, an error of this end takes precedence over what the peer has sent.
		switch {
		case c.closed:
			return net.ErrClosed
		case noWait:
			return nil
		case c.rd.deadline.Passed():
			return os.ErrDeadlineExceeded
		case c.ring.Available() > 0:
			return nil
		case c.wasReset():
			return readError(syscall.ECONNRESET)
		case c.peer.finished():
			return io.EOF
		case c.own.disconnected() && errors.Is(c.err(), io.EOF):
			return io.EOF // the peer has closed in turn
		case c.err() != nil:
			return readError(c.err())
		}
		switch {
		case c.readClosed && !looked:
			looked = true
			c.look(&c.rd, 1)
			continue
		case !looked && c.mayHaveSentAll():
			looked = true
			c.await(&c.rd, c.lookUntil())
			if c.in.Silent() {
				c.look(&c.rd, 1) // the time may have been over before anybody looked
			}
			continue
		}
		if !given && c.grantDue(2) {
			given = true
			c.mu.Unlock()
			c.give()
			c.mu.Lock()
			continue
		}
		if c.readClosed {
			return io.EOF // in place of waiting
		}
		if len(b) > 0 {
			c.ring.Attach(b)
		}
		c.await(&c.rd, c.rd.deadline.Time())
	}
}

// consumed ends a call that has taken n bytes from the ring. The caller holds mu, which is
// released.
func (c *Conn) consumed(n int) {
	c.stopDriving(&c.rd)
	c.in.Consumed(n)
	c.stats.Read(n)
	due := n > 0 && c.grantDue(2)
	c.mu.Unlock()
	if due {
		c.give()
	}
}
