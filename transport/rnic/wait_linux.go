//go:build amd64 || arm64

package rnic

import (
	"os"
	"sync/atomic"
	"time"

	"github.com/rdmanet/iwarp/transport"
)

// A condition is what calls of Wait, or those of Drain, wait for.
type condition struct {
	holds func() (bool, error) // with an error: it never will

	// asked counts the interrupts. Each ends the calls that were there at the time, or the next
	// one: a call ends if there are more than taken was when it began.
	asked, taken atomic.Uint32
}

func (c *condition) interrupted(seen uint32) bool { return c.asked.Load() != seen }

func (c *condition) take() error {
	c.taken.Store(c.asked.Load())
	return transport.ErrInterrupted
}

// Wait implements transport.QueuePair.
func (q *queuePair) Wait(deadline time.Time) error { return q.waitFor(&q.waiting, deadline) }

// Drain implements transport.QueuePair.
func (q *queuePair) Drain(deadline time.Time) error {
	if err := q.mark(); err != nil {
		return err
	}
	return q.waitFor(&q.draining, deadline)
}

// Interrupt implements transport.QueuePair.
func (q *queuePair) Interrupt() {
	q.waiting.asked.Add(1)
	q.draining.asked.Add(1)
	q.mu.Lock()
	q.rouse()
	q.mu.Unlock()
}

// mark sees to it that the end of what is on the send queue will be known.
func (q *queuePair) mark() error {
	q.sendMu.Lock()
	defer q.sendMu.Unlock()
	if q.sq.outstanding() == 0 || q.sq.marked.Load() == q.sq.head.Load() || q.sendable() != nil {
		return nil
	}
	return q.postEmptyWrite()
}

// pollable reports whether Poll has something to return.
func (q *queuePair) pollable() (bool, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if ok, err := q.known(); ok || err != nil {
		return ok, err
	}
	for q.reapSome() > 0 {
		q.rouse()
		if len(q.early) > 0 {
			return true, nil
		}
	}
	return q.known()
}

// known is pollable without a look at the device. The caller holds mu.
func (q *queuePair) known() (bool, error) {
	switch {
	case len(q.early) > 0:
		return true, nil
	case q.closed:
		return false, q.err
	}
	// All that the peer has sent has completed before its end is known. What was posted comes back
	// after that, but for sends that had no completion to come and were done.
	if q.err != nil && (q.dead || q.overdue || q.sq.tail.Load() >= q.sq.marked.Load() && q.rq.head.Load() == q.rq.tail.Load()) {
		return false, q.err
	}
	return false, nil
}

// drained reports whether everything on the send queue has completed, and otherwise why it never
// will.
func (q *queuePair) drained() (bool, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.sq.outstanding() > 0 && q.reapSome() > 0 {
		q.rouse()
	}
	return q.sq.outstanding() == 0 && q.err == nil, q.err
}

// waitFor sleeps on the completion channel, or waits for the one who does, until c holds.
func (q *queuePair) waitFor(c *condition, deadline time.Time) error {
	seen := c.taken.Load()
	if ok, err := c.holds(); ok || err != nil {
		return err
	}
	if c != &q.waiting {
		q.others.Add(1)
		defer q.others.Add(-1)
	}
	if q.sleeper.spin(func() bool {
		ok, err := c.holds()
		return ok || err != nil || c.interrupted(seen)
	}) {
		if ok, err := c.holds(); ok || err != nil {
			return err
		}
	}
	for {
		if c.interrupted(seen) {
			return c.take()
		}
		if !deadline.IsZero() && !time.Now().Before(deadline) {
			return os.ErrDeadlineExceeded
		}
		select {
		case <-q.token:
			q.sleep(c, seen, deadline)
			q.token <- struct{}{}
		default:
			q.follow(c, seen, deadline)
		}
		if ok, err := c.holds(); ok || err != nil {
			return err
		}
	}
}

// sleep waits for a completion. The caller holds the token.
func (q *queuePair) sleep(c *condition, seen uint32, deadline time.Time) {
	q.sleeper.begin(deadline)
	defer q.sleeper.done()
	// Whoever changes something does so first and kicks then, so one of the two is seen.
	if c.interrupted(seen) || q.changed(c) {
		return
	}
	_ = q.sleeper.rc.Read(q.sleeper.ready)
}

// changed reports whether c holds, or never will. For Wait it leaves the device to takeEvent, which
// looks there next.
func (q *queuePair) changed(c *condition) bool {
	if c != &q.waiting {
		ok, err := c.holds()
		return ok || err != nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	ok, err := q.known()
	return ok || err != nil
}

// follow waits while somebody else sleeps on the channel.
func (q *queuePair) follow(c *condition, seen uint32, deadline time.Time) {
	q.mu.Lock()
	if q.wake == nil {
		q.wake = make(chan struct{})
	}
	wake := q.wake
	q.mu.Unlock()
	// News from before wake was made is found here, later news closes it.
	if ok, err := c.holds(); ok || err != nil || c.interrupted(seen) {
		return
	}
	var expiry <-chan time.Time
	if !deadline.IsZero() {
		timer := time.NewTimer(time.Until(deadline))
		defer timer.Stop()
		expiry = timer.C
	}
	select {
	case <-q.token:
		q.token <- struct{}{} // the caller takes it
	case <-wake:
	case <-expiry:
	}
}

// rouse has all who wait look at their conditions again. The caller holds mu.
func (q *queuePair) rouse() {
	q.wakeFollowers()
	q.sleeper.kick()
}

// wakeFollowers is rouse, but for the one who sleeps. The caller holds mu.
func (q *queuePair) wakeFollowers() {
	if q.wake != nil {
		close(q.wake)
		q.wake = nil
	}
}
