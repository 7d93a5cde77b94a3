package rdmanet

import "github.com/rdmanet/iwarp/transport"

// writeNow does the work of write the short way, for a b that the transport can send at once. It
// reports whether it has. n is 0 if b is likely to be lost. The caller holds the side's lock.
func (c *Conn) writeNow(b []byte) (n int, done bool, err error) {
	if !c.sendMu.TryLock() {
		return 0, false, nil
	}
	posted, left := false, false
	c.mu.Lock()
	if c.out.Fits(len(b)) && c.writable() == nil && !c.grantDue(4) {
		to := c.out.Take(len(b))
		c.stats.Sent(len(b), 1)
		c.talks = true
		c.mu.Unlock()
		posted, left = c.quick.WriteNow(transport.STag(to.Key), to.Addr, b)
		if !posted || left {
			c.notAtOnce(b, posted)
		}
	} else {
		c.mu.Unlock()
	}
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

// notAtOnce corrects the accounts for a b that was not posted, or not taken as a whole. The caller
// holds sendMu.
func (c *Conn) notAtOnce(b []byte, posted bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if posted {
		c.stage.used++
		return
	}
	c.out.GiveBack(len(b))
	c.stats.Sent(-len(b), -1)
}

// drainRest waits until the host has taken what was posted.
func (c *Conn) drainRest() error {
	d, err := c.all()
	if err != nil {
		c.wr.behind = true
		_ = c.qp.Drain(inThePast) // which ends the loan of what was posted
		return err
	}
	return c.drain(d)
}
