package rdmanet

import "github.com/rdmanet/iwarp/transport"

// nowBytes is the length up to which Writes take the short way.
const nowBytes = 4 << 10

// writeNow does the work of write the short way, for a b that the transport can send at once. It
// reports whether it has. The caller holds the side's lock.
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
		if err := c.drainRest(); err != nil && c.broken() {
			return 0, true, err
		}
	}
	return len(b), true, nil
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
		return err
	}
	return c.drain(d)
}
