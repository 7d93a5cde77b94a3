package rdmanet

import (
	"time"

	"github.com/rdmanet/iwarp/rdmanet/internal/wire"
	"github.com/rdmanet/iwarp/transport"
)

// grantDue reports whether the peer should be told of space or credits. With part 2 that is when it
// is worth a message of its own; of space that is later where data goes that way, so that it goes
// with it. The caller holds mu.
func (c *Conn) grantDue(part uint32) bool {
	if c.closed || c.own.disconnected() || c.peer.finished() || c.err() != nil || c.sendErr() != nil {
		return false
	}
	if !c.stage.controlReady() {
		return false
	}
	space := c.in.SpaceDue() && (part > 2 || !c.talks || c.in.SpaceUrgent(c.ring.Announced()))
	return (space || c.in.CreditsDue(part) || c.ringTooSmall()) && !c.peerMayBeGone()
}

// peerMayBeGone reports whether the peer may have sent its last word. An rsocket closes its TCP
// connection right after that, without waiting until all has arrived, and its kernel answers what
// we send then with a reset, which ends what is still on its way to us. So a plain rsocket is told
// of space and credits only when it cannot go on without them. The first time it is told as long as
// nothing has come from it, as it may be waiting for that.
func (c *Conn) peerMayBeGone() bool {
	return !c.extended && !c.immediate && !c.in.Silent() && !c.ring.Full() && !c.in.Exhausted()
}

// lookTime is how long a Read waits for what a plain rsocket has sent, before the rsocket is told
// of space for the first time.
const lookTime = 50 * time.Millisecond

// mayHaveSentAll reports whether a peer of the kind that peerMayBeGone is about has sent something
// that nobody has looked at yet. The caller holds mu.
func (c *Conn) mayHaveSentAll() bool {
	return !c.extended && !c.immediate && c.in.Silent() && c.driver == nobody && c.grantDue(2)
}

// lookUntil is when the Read of lookTime stops waiting. The caller holds mu.
func (c *Conn) lookUntil() time.Time {
	until := time.Now().Add(lookTime)
	if d := c.rd.deadline.Time(); !d.IsZero() && d.Before(until) {
		return d
	}
	return until
}

// addGrant adds what tells the peer of space and credits. The caller holds sendMu and mu.
func (c *Conn) addGrant(b *batch, flags transport.Flags) {
	g := c.in.Grant(time.Now())
	c.talks = false
	wr := transport.SendWR{Flags: flags}
	if g.Space.Length > 0 {
		c.ring.Grant(uint64(g.Space.Length))
		c.order.PutSGE(b.entry[:], g.Space)
		wr.Flags |= transport.Inline
		wr.Data, wr.RemoteSTag, wr.RemoteOffset = b.entry[:], transport.STag(c.peerTable.Key), c.peerTable.Addr+g.Entry
	}
	c.addMessage(b, wr, wire.MakeWord(wire.OpLimit, uint32(g.Limit)), 0)
}

// give tells the peer of space and credits, if that is worth a message. If another call is sending
// at the moment, that one does so when it is done.
func (c *Conn) give() {
	for {
		c.giveWanted.Store(true)
		if !c.sendMu.TryLock() {
			return
		}
		c.giveWanted.Store(false)
		var b *batch
		c.mu.Lock()
		if c.ringTooSmall() && c.grantDue(2) {
			c.enlargeRing()
		}
		due := c.grantDue(2)
		if due || c.confirmDue() {
			b = batches.Get().(*batch)
		}
		if due {
			c.addGrant(b, 0)
		}
		if b != nil {
			c.addConfirmations(b)
		}
		c.mu.Unlock()
		if b == nil {
			c.sendMu.Unlock()
		} else {
			_ = c.postAndRelease(b)
		}
		if !c.giveWanted.Load() {
			return
		}
	}
}

// keepTime is how long a plain peer must be silent to count as one of ours, which waits for credits
// although it has some left. An rsocket uses all that it has; it may have closed by then, and must
// not be told of credits before everything that it has sent is here.
const keepTime = 50 * time.Millisecond

// seeWhetherKept gives credits to a peer that has not used those that one of ours leaves unused.
func (c *Conn) seeWhetherKept() {
	c.mu.Lock()
	kept := c.in.Settle()
	c.mu.Unlock()
	if kept {
		c.give()
	}
}
