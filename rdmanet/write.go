package rdmanet

import (
	"errors"
	"net"
	"os"
	"time"

	"github.com/rdmanet/iwarp/transport"
)

// settleTime bounds the search for the reason why sending failed.
const settleTime = time.Second

// Write sends b and returns when this host has taken it all, as a socket does; it waits while the peer has no room. After a
// deadline n says exactly how much is on its way to the peer, and the connection can be used further; after another error
// the peer may have got less.
//
// The room is counted in bytes and in messages, of which a Write is at least one; see Config. A peer that calls neither Read nor
// another method that waits gives none back. That the peer has closed is noticed by Read, or by a Write that has to wait: a
// few Writes before that succeed in vain.
func (c *Conn) Write(b []byte) (int, error) {
	c.wr.lock.Lock()
	defer c.wr.lock.Unlock()
	n, err := c.write(b, destination{})
	if err != nil {
		err = c.opError("write", err)
	}
	return n, err
}

// A destination is where bytes go: to the stream, or directly to what the peer has exposed at offset.
type destination struct {
	direct bool
	offset uint64
}

// write does the work of Write and of WriteAt. The caller holds the side's lock.
func (c *Conn) write(b []byte, to destination) (n int, err error) {
	if c.behind && len(b) > 0 {
		// What an earlier call left when its deadline passed comes first, as it takes memory.
		if err := c.drain(c.drainDeadline()); err != nil {
			return 0, err
		}
	}
	most := batchBytes
	if c.stage != nil {
		most = stagedBytes
	}
	for {
		batch, deadline, err := c.prepare(b[n:min(len(b), n+most)], to)
		if batch == nil {
			return n, err
		}
		data := batch.data
		if err := c.postAndRelease(batch); err != nil {
			c.wr.draining.Store(false)
			return n, c.settle()
		}
		n += data
		to.offset += uint64(data)
		if c.giveWanted.Load() {
			c.give()
		}
		if c.stage == nil {
			err = c.drain(deadline)
		}
		if err == nil {
			if n == len(b) {
				return n, nil
			}
			continue
		}
		if n == len(b) && !c.broken() {
			err = nil // all of it is on its way; the next call says what is wrong
		}
		return n, err
	}
}

// prepare waits until some of p can be sent, and returns a batch with it, with sendMu held and the deadline to wait until for
// this host to take it. The batch is nil with an error, and when p is empty.
func (c *Conn) prepare(p []byte, to destination) (*batch, time.Time, error) {
	c.sendMu.Lock()
	c.mu.Lock()
	for {
		err := c.writable()
		if err == nil && to.direct && len(p) > 0 && c.maps.find(to.offset) == nil {
			err = ErrNotExposed
		}
		if err != nil || len(p) == 0 {
			c.leave(&c.wr)
			c.mu.Unlock()
			c.sendMu.Unlock()
			if c.giveWanted.Load() {
				c.give()
			}
			return nil, time.Time{}, err
		}
		if (to.direct || c.out.ready()) && (c.stage == nil || c.stage.ready(len(p))) {
			break
		}
		c.awaitSending()
	}
	c.leave(&c.wr)
	var flags transport.Flags
	if c.stage == nil {
		flags = transport.WillDrain
	}
	part := uint64(2)
	if c.extended {
		// Credits cost little beside data; but a plain rsocket must not get them more often than it would give them.
		part = 4
	}
	b := batches.Get().(*batch)
	if c.grantDue(part) {
		c.addGrant(b, flags)
	}
	if to.direct {
		b.data = c.addDirect(b, p, to.offset, flags)
	} else {
		b.data = c.addData(b, p, flags)
	}
	c.wr.draining.Store(c.stage == nil)
	deadline := c.wr.deadline
	c.mu.Unlock()
	b.fill()
	return b, deadline, nil
}

// awaitSending lets some time pass in which something may change for one who wants to send. The caller holds the lock of the side that writes,
// sendMu and mu; the latter two are released meanwhile.
func (c *Conn) awaitSending() {
	c.sendMu.Unlock()
	due := c.grantDue(2)
	if !due {
		c.await(&c.wr, c.wr.deadline)
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
	case passed(c.wr.deadline):
		return os.ErrDeadlineExceeded
	case c.writeClosed, c.peerDisconnected:
		return brokenPipe()
	case c.err != nil:
		return writeError(c.err)
	case c.sendErr != nil:
		return writeError(c.sendErr)
	}
	return nil
}

// drain waits until the host has taken what was posted. It returns what Write is to say if that does not come to pass.
func (c *Conn) drain(deadline time.Time) error {
	defer c.wr.draining.Store(false)
	for {
		err := c.qp.Drain(deadline)
		if err == nil {
			c.behind = false
			return nil
		}
		if fatal(err) {
			c.sendFailed(err)
			return c.settle()
		}
		c.behind = true
		c.mu.Lock()
		c.wr.draining.Store(true)
		err, deadline = c.writable(), c.wr.deadline
		c.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

// drainDeadline readies the side for drain.
func (c *Conn) drainDeadline() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wr.draining.Store(true)
	return c.wr.deadline
}

// broken reports whether what was posted is likely to be lost.
func (c *Conn) broken() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sendErr != nil || c.err != nil || c.peerDisconnected
}

// settle finds out why sending has failed: what the peer has sent before says more than the error of the connection below.
func (c *Conn) settle() error {
	end := time.Now().Add(settleTime)
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.leave(&c.wr)
	for !c.closed && !c.peerDisconnected && c.err == nil && !passed(end) {
		c.await(&c.wr, end)
	}
	err := c.writable()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = writeError(c.sendErr)
	}
	return err
}
