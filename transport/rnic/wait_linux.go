//go:build amd64 || arm64

package rnic

import (
	"time"

	"github.com/rdmanet/iwarp/transport/internal/wait"
)

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
	q.waiting.Interrupt()
	q.draining.Interrupt()
	q.mu.Lock()
	q.rouse()
	q.mu.Unlock()
}

// mark makes sure that the end of what is on the send queue will be known.
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
	// after that, except for sends that were done and had no completion to come.
	if q.err != nil && (!q.remains.usable() || q.overdue || q.sq.tail.Load() >= q.sq.marked.Load() && q.rq.head.Load() == q.rq.tail.Load()) {
		return false, q.err
	}
	return false, nil
}

// drained reports whether everything on the send queue has been sent, and otherwise why it never
// will be. What was sent stays so, whatever becomes of the connection after that, except for Close:
// an empty Write that mark has posted may find that the peer has taken all and gone.
func (q *queuePair) drained() (bool, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.sq.outstanding() > 0 && q.reapSome() > 0 {
		q.rouse()
	}
	if q.sq.outstanding() == 0 && !q.sq.lost && !q.closed {
		return true, nil
	}
	return false, q.err
}

// A condition is what some calls wait for. It is the driver of those who do.
type condition struct {
	wait.Condition
	q     *queuePair
	holds func() (bool, error)
}

// ask has c hold when holds says so.
func (c *condition) ask(q *queuePair, holds func() (bool, error)) { c.q, c.holds = q, holds }

// Holds implements wait.Driver.
func (c *condition) Holds(*wait.Condition) (bool, error) { return c.holds() }

// Drive implements wait.Driver: it waits for a completion.
func (c *condition) Drive(_ *wait.Condition, seen uint32, deadline time.Time) (wait.Pause, error) {
	c.q.sleep(c, seen, deadline)
	return wait.NoPause, wait.ErrAgain
}

// waitFor sleeps on the completion channel, or waits for the one who does, until c holds.
func (q *queuePair) waitFor(c *condition, deadline time.Time) error {
	seen := c.Begin()
	if ok, err := c.holds(); ok || err != nil {
		return err
	}
	if c != &q.waiting {
		q.others.Add(1)
		defer q.others.Add(-1)
	}
	q.sleeper.spin(func() bool {
		ok, err := c.holds()
		return ok || err != nil || c.Interrupted(seen)
	})
	return q.crew.For(c, &c.Condition, seen, deadline)
}

// sleep waits for a completion. The caller holds the token.
func (q *queuePair) sleep(c *condition, seen uint32, deadline time.Time) {
	q.sleeper.begin(deadline)
	defer q.sleeper.done()
	// Whoever changes something does so first and kicks then, so one of the two is seen.
	if c.Interrupted(seen) || q.changed(c) {
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

// rouse makes all who wait check their conditions again. The caller holds mu.
func (q *queuePair) rouse() {
	q.crew.Wake()
	q.sleeper.kick()
}
