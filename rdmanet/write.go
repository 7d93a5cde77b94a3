package rdmanet

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/rdmanet/iwarp/internal/neterr"
	"github.com/rdmanet/iwarp/transport"
)

// settleTime bounds the search for the reason why sending failed.
const settleTime = time.Second

// Write sends b and returns when this host has taken it all, as a socket does; it waits while the
// peer has no room. After a deadline n says exactly how much is on its way to the peer, and the
// connection can still be used; after another error the peer may have got less.
//
// The room is counted in bytes and in messages, of which a Write is at least one; see Config. A
// peer that calls neither Read nor another method that waits gives none back. That the peer has
// closed is noticed by Read, by a Write that has to wait and, where the transport can tell, by any.
// A few Writes before that succeed although their bytes are lost, and so does the first one after,
// as with a socket. The next fails with syscall.EPIPE.
func (c *Conn) Write(b []byte) (int, error) {
	if !c.calls.begin() {
		return 0, c.failed("write", net.ErrClosed)
	}
	c.wr.lock.Lock()
	if c.mayWriteNow(len(b)) { // from here, as what needs no more fits on a small stack
		if n, done, err := c.writeNow(b); done {
			c.endCall(&c.wr)
			if n == len(b) {
				return n, nil // all of it is on its way; the next call says what is wrong
			}
			return n, c.failed("write", err)
		}
	}
	n, err := c.write(b, destination{})
	c.endCall(&c.wr)
	return n, c.failed("write", err)
}

// mayWriteNow reports whether a Write of n bytes can begin with writeNow, and may end with it.
func (c *Conn) mayWriteNow(n int) bool {
	return c.writesNow && 0 < n && n <= batchBytes && !c.wr.behind && !c.peerGone.Load()
}

// A destination is where bytes go: to the stream, or directly to what the peer has exposed at
// offset.
type destination struct {
	direct bool
	offset uint64
}

// write does the work of Write and of WriteAt. The caller holds the side's lock.
func (c *Conn) write(b []byte, to destination) (n int, err error) {
	if c.isInVain(len(b), to) {
		return len(b), nil
	}
	if c.wr.behind && len(b) > 0 {
		// What an earlier call left when its deadline passed comes first, as it takes memory.
		d, err := c.all()
		if err == nil {
			err = c.drain(d)
		}
		if err != nil {
			return 0, err
		}
	}
	most := batchBytes
	if !c.stage.bare() {
		most = stagedBytes
	}
	for {
		p := b[n:min(len(b), n+most)]
		if c.writesNow && !to.direct && len(p) > 0 {
			if k, done, err := c.writeNow(p); done {
				if n += k; k > 0 && n == len(b) {
					return n, nil // all of it is on its way; the next call says what is wrong
				} else if err != nil {
					return n, err
				}
				continue
			}
			if c.isInVain(len(b), to) { // it has looked for the peer's end
				return len(b), nil
			}
		}
		batch, d, err := c.prepare(p, to)
		if batch == nil {
			return n, err
		}
		data := batch.data
		if err := c.postAndRelease(batch); err != nil {
			_ = c.qp.Drain(inThePast) // which ends the loan of what was posted
			c.wr.draining.Store(false)
			if c.isInVain(len(b), to) { // a Read has found the peer's end meanwhile
				return len(b), nil
			}
			return n, c.settle()
		}
		if c.giveWanted.Load() {
			c.give()
		}
		if c.stage.bare() {
			err = c.drain(d)
		}
		if err != nil && c.broken() {
			return n, err // the host has not taken all of this batch
		}
		n += data
		to.offset += uint64(data)
		if n == len(b) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

// isInVain reports whether the peer has closed and a Write of n bytes is accepted all the same.
func (c *Conn) isInVain(n int, to destination) bool {
	if !c.peerGone.Load() && c.qp.Err() != nil {
		c.mu.Lock()
		c.hearOut()
		c.mu.Unlock()
	}
	return c.peerGone.Load() && !to.direct && c.writesInVain(n)
}

// writesInVain reports whether a Write of n bytes is accepted although the peer has closed and its
// bytes will be lost. One is, as with a socket: what is written right after the peer's end, such as
// the farewell of a protocol above, is no error, but the second Write is.
func (c *Conn) writesInVain(n int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refused || c.closed || c.own.finished() || c.peerLeftUnread || c.wr.deadline.Passed() {
		return false
	}
	if err := c.sendErr(); err != nil && !errors.Is(err, io.EOF) { // which is the peer's end itself
		return false
	}
	c.refused = n > 0
	return true
}

// prepare waits until some of p can be sent, and returns a batch with it, with sendMu held, and
// what drain must wait for. The batch is nil with an error, and when p is empty.
func (c *Conn) prepare(p []byte, to destination) (*batch, draining, error) {
	c.sendMu.Lock()
	c.mu.Lock()
	for {
		err := c.writable()
		if err == nil && to.direct && len(p) > 0 && c.maps.Find(to.offset) == nil {
			err = ErrNotExposed
		}
		if err != nil || len(p) == 0 {
			c.stopDriving(&c.wr)
			c.mu.Unlock()
			c.sendMu.Unlock()
			if c.giveWanted.Load() {
				c.give()
			}
			return nil, draining{}, err
		}
		if (to.direct || c.out.Ready()) && c.stage.ready(len(p)) {
			break
		}
		if (to.direct || c.out.Ready()) && c.stage.full(len(p)) && c.enlargeStage() {
			continue // mu was released
		}
		c.awaitSending()
	}
	c.stopDriving(&c.wr)
	var flags transport.Flags
	if c.stage.bare() {
		flags = transport.WillDrain
	}
	part := uint32(2)
	if c.extended {
		// Credits cost little next to data, but a plain rsocket must not get them more often than it
		// would give them.
		part = 4
	}
	b := batches.Get().(*batch)
	due := c.grantDue(part)
	switch {
	case due && c.ringTooSmall():
		c.giveWanted.Store(true) // which enlarges it
		due = false
	case due && c.grantDue(2):
		c.addGrant(b, flags)
		due = false
	}
	if to.direct {
		b.data = c.addDirect(b, p, to.offset, flags)
	} else {
		b.data = c.addData(b, p, flags)
	}
	if due { // there is time, and data that comes first is what the peer's Read expects
		c.addGrant(b, flags)
	}
	c.wr.draining.Store(c.stage.bare())
	d := draining{c.wr.deadline.Time(), c.stage.used}
	c.mu.Unlock()
	b.fill()
	return b, d, nil
}

// awaitSending lets some time pass in which something may change for a call that wants to send. The
// caller holds the lock of the side that writes, sendMu and mu; the last two are released
// meanwhile.
func (c *Conn) awaitSending() {
	c.sendMu.Unlock()
	c.talks = false                        // as no data goes that way now
	due := c.grantDue(2) || c.confirmDue() // which others may have left to the holder of sendMu
	if !due {
		c.stats.Block(time.Now())
		c.await(&c.wr, c.wr.deadline.Time())
		c.stats.Unblock(time.Now())
	}
	c.mu.Unlock()
	if due || c.giveWanted.Load() {
		c.give()
	}
	c.sendMu.Lock()
	c.mu.Lock()
}

// writable returns why nothing can be written, if so. The caller holds mu.
func (c *Conn) writable() error {
	switch {
	case c.closed:
		return net.ErrClosed
	case c.wr.deadline.Passed():
		return os.ErrDeadlineExceeded
	case c.own.finished():
		return brokenPipe()
	case c.wasReset():
		return writeError(syscall.ECONNRESET)
	case c.peer.disconnected():
		c.refused = true
		return brokenPipe()
	case c.err() != nil:
		return writeError(c.err())
	case c.sendErr() != nil:
		return writeError(c.sendErr())
	}
	return nil
}

// A draining is what drain waits for, that the entries of the send queue are free that were taken
// by then, and until when.
type draining struct {
	deadline time.Time
	entries  uint32 // stage.used
}

// drain waits until the host has taken what was posted. It returns what Write must report if that
// does not happen.
func (c *Conn) drain(d draining) error {
	defer c.wr.draining.Store(false)
	if t, ok := transport.As[transport.DrainTeller](c.qp); ok && !t.Drained() {
		c.showBlocked(true)
		defer c.showBlocked(false)
	}
	for {
		err := c.qp.Drain(d.deadline)
		if fatal(err) {
			c.sendFailed(err)
			return c.settle()
		}
		var why error
		if err != nil {
			c.wr.behind = true
			c.mu.Lock()
			c.wr.draining.Store(true)
			why, d.deadline = c.writable(), c.wr.deadline.Time()
			c.mu.Unlock()
			if why != nil {
				err = c.qp.Drain(inThePast) // only a look: what was taken meanwhile counts
			}
		}
		switch {
		case err == nil:
			c.wr.behind = false
			c.mu.Lock()
			c.stage.free(d.entries)
			c.mu.Unlock()
			return nil
		case why != nil:
			return why
		}
	}
}

// showBlocked shows that a Write begins, or ends, to wait for a peer that takes nothing.
func (c *Conn) showBlocked(begins bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if begins {
		c.stats.Block(time.Now())
	} else {
		c.stats.Unblock(time.Now())
	}
}

// all prepares the side to drain everything that was posted, unless nothing can be written: Close
// may have looked for calls to interrupt before this one could be seen.
func (c *Conn) all() (d draining, err error) {
	c.sendMu.Lock()
	c.mu.Lock()
	if err = c.writable(); err == nil {
		c.wr.draining.Store(true)
		d = draining{c.wr.deadline.Time(), c.stage.used}
	}
	c.mu.Unlock()
	c.sendMu.Unlock()
	if c.giveWanted.Load() {
		c.give()
	}
	return d, err
}

// broken reports whether what was posted is likely to be lost.
func (c *Conn) broken() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sendErr() != nil || c.err() != nil || c.peer.disconnected()
}

// settle finds out why sending has failed: what the peer has sent before says more than the error
// of the connection below, unless that tells of a lack of this host.
func (c *Conn) settle() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hearOut()
	err := c.writable()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = writeError(c.sendErr())
	}
	return err
}

// hearOut acts on what the peer has sent before the queue pair ended. The caller holds mu, which is
// released meanwhile.
func (c *Conn) hearOut() {
	defer c.stopDriving(&c.wr)
	end := time.Now().Add(settleTime)
	for !c.closed && !c.peer.disconnected() && c.err() == nil && !neterr.IsLack(c.sendErr()) && time.Now().Before(end) && !c.wr.deadline.Passed() {
		until := end
		if d := c.wr.deadline.Time(); !d.IsZero() && d.Before(end) {
			until = d
		}
		c.await(&c.wr, until)
	}
}
