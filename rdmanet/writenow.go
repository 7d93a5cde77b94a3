package rdmanet

import "github.com/rdmanet/iwarp/transport"

// writeNow does the work of write the short way, for a b that the transport can send at once. It
// reports whether it has. n is 0 if b is likely to be lost. The caller holds the side's lock.
func (c *Conn) writeNow(b []byte) (n int, done bool, err error) {
	if !c.sendMu.TryLock() {
		return 0, false, nil
	}
	posted, left := c.postNow(b)
	c.sendMu.Unlock()
	if c.giveWanted.Load() {
		c.give()
	}
	if !posted {
		return 0, false, nil
	}
	if left {
		if err = c.drainRest(); err != nil && c.broken() {
			return 0, true, err
		}
	}
	return len(b), true, err
}

// postNow posts b, if nothing else is due. left is true if it must be drained. The caller holds
// sendMu.
func (c *Conn) postNow(b []byte) (posted, left bool) {
	c.mu.Lock()
	if !c.out.Fits(len(b)) || c.writable() != nil || c.grantDue(4) {
		c.mu.Unlock()
		return false, false
	}
	to := c.out.Take(len(b))
	c.stats.Sent(len(b), 1)
	c.mu.Unlock()
	posted, left = c.now.WriteNow(transport.STag(to.Key), to.Addr, b)
	if posted && !left {
		return true, false
	}
	c.mu.Lock()
	if posted {
		c.stage.used++
	} else {
		c.out.GiveBack(len(b))
		c.stats.Sent(-len(b), -1)
	}
	c.mu.Unlock()
	return posted, left
}

// drainRest waits until the host has taken what was posted.
func (c *Conn) drainRest() error {
	d, err := c.all()
	if err != nil {
		c.behind = true
		_ = c.qp.Drain(inThePast) // which ends the loan of what was posted
		return err
	}
	return c.drain(d)
}
