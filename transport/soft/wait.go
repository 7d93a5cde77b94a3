package soft

import (
	"errors"
	"os"
	"syscall"
	"time"

	"github.com/rdmanet/iwarp/transport/internal/wait"
)

// Holds implements wait.Driver.
func (q *queuePair) Holds(c *wait.Condition) (bool, error) {
	if c == &q.Draining {
		return q.drained()
	}
	return q.Pair.Holds(c)
}

// drained reports whether everything on the send queue has been sent, and otherwise why it never
// will be. What the kernel has taken is sent, whatever becomes of the connection after that.
func (q *queuePair) drained() (bool, error) {
	q.tx.mu.Lock()
	sent, err := q.tx.sq.Drained(), q.tx.err
	q.tx.mu.Unlock()
	if sent {
		return true, nil
	}
	why := q.Err()
	// A broken pipe is what is left once a read has taken the reset, so what the read has found
	// counts, even if it is not known yet.
	if err == nil || errors.Is(err, syscall.EPIPE) && (why == nil || isFailure(why)) {
		err = why
	}
	return false, err
}

// Drain implements transport.QueuePair.
func (q *queuePair) Drain(deadline time.Time) error {
	seen := q.Draining.Begin()
	for drove := false; ; drove = true {
		if ok, err := q.drained(); ok || err != nil {
			if drove || err != nil {
				q.leaveOutput() // answers to the peer may be left
			}
			return err
		}
		q.tx.mu.Lock()
		blocked := q.tx.blocked
		q.tx.mu.Unlock()
		if !blocked {
			// The gate is closed or a read is outstanding: what is missing comes from the peer.
			err := q.Crew.For(q, &q.Draining, seen, deadline)
			if err != nil {
				q.leaveOutput()
			}
			return err
		}
		if err := q.waitWritable(seen, deadline); err != wait.ErrAgain {
			q.leaveOutput()
			return err
		}
	}
}

// Wait implements transport.QueuePair. A call with nothing in its way blocks right here: each call
// between it and the socket costs much once the processor has done other things.
func (q *queuePair) Wait(deadline time.Time) error {
	c, rx := &q.Waiting, &q.rx
	seen := c.Begin()
	if !q.Crew.Take() {
		return q.WaitSince(seen, deadline)
	}
	c.Blocked.Store(true)
	if !q.mayBlock(deadline) || q.News() || c.Interrupted(seen) || q.sock.rd.kicked() {
		c.Blocked.Store(false)
		q.giveRx()
		return q.WaitSince(seen, deadline)
	}
	rx.n, rx.err = 0, nil
	err := q.blockingRead()
	c.Blocked.Store(false)
	rx.unpark()
	if err != nil || rx.err != nil || rx.n == 0 {
		_ = q.receiveFailed(rx.outcome(err))
	} else if rx.w += rx.n; !q.parseFew() {
		q.parse(c)
	}
	q.giveRx()
	if q.TakePlaced() {
		return nil
	}
	return q.WaitSince(seen, deadline)
}

// mayBlock reports whether all that is left to do is to wait until the socket has bytes for
// staging, as nothing that the peer waits for is held back. The caller holds the receive token.
func (q *queuePair) mayBlock(deadline time.Time) bool {
	rx := &q.rx
	return rx.buf == nil && rx.trend.left == 0 && rx.stalled == 0 && !rx.turn.over() && !q.held.Load() &&
		q.sock.rd.is(deadline) && !wait.Expired(deadline)
}

// parseFew is parse for staging that has nothing but one or two FPDUs of RDMA Writes in which
// nothing is wrong, such as the RTR frame and the data that comes with it. It returns false where
// it has left something to parse. The caller holds the receive token.
func (q *queuePair) parseFew() bool {
	rx := &q.rx
	if q.early.Load() {
		return false
	}
	for range 2 {
		fpdu := rx.next()
		if fpdu == nil {
			return false
		}
		h, payload, ok := q.plainWrite(fpdu)
		if !ok {
			return false
		}
		rx.r += len(fpdu)
		if e := q.handleWrite(h.STag, h.TO, payload); e != nil {
			q.terminateFor(e, fpdu)
			rx.r = rx.w
		}
		if rx.r == rx.w {
			rx.release()
			q.answerParsed()
			return true
		}
	}
	return false
}

// Drive implements wait.Driver: once it reads, and handles what has come.
func (q *queuePair) Drive(c *wait.Condition, seen uint32, deadline time.Time) (wait.Pause, error) {
	q.sock.setReadDeadline(q.rx.stallDeadline(q, deadline))
	c.Blocked.Store(true)
	// Whoever interrupts, closes or completes something does that first and then kicks the socket, so
	// one of the two is seen.
	ok, err := q.Holds(c)
	switch {
	case ok || err != nil:
		c.Blocked.Store(false)
		return q.rx.turn.end(), err
	case c.Interrupted(seen):
		c.Blocked.Store(false)
	default:
		_ = q.receive(c, true)
	}
	return q.rx.turn.end(), wait.ErrAgain
}

// Look reads and handles once what has arrived, for the next call of Poll, unless another call
// waits for that. It does not block, and returns false if there was nothing.
func (q *queuePair) Look() bool {
	if !q.Healthy() {
		return false
	}
	q.sendHeld()
	if !q.Crew.Take() {
		return false
	}
	err := q.receive(nil, false)
	pause := q.rx.turn.end()
	q.giveRx()
	return err == nil && pause != wait.Back
}

// awaitRx waits for the right to read the socket and to use rx.
func (q *queuePair) awaitRx() { q.Crew.Await(&q.Crew.Token, nil) }

// giveRx gives it back.
func (q *queuePair) giveRx() { q.Crew.Give(&q.Crew.Token) }

// waitWritable sends until the kernel has taken everything that can be sent now.
func (q *queuePair) waitWritable(seen uint32, deadline time.Time) error {
	if q.Draining.Interrupted(seen) {
		return q.Draining.Take()
	}
	if wait.Expired(deadline) {
		return os.ErrDeadlineExceeded
	}
	if t := &q.tx.token; !t.Take() && !q.Crew.Follow(q, t, &q.Draining, seen, deadline) {
		return wait.ErrAgain
	}
	q.driveOutput(deadline, true, seen)
	q.Crew.Give(&q.tx.token)
	return wait.ErrAgain
}

// driveOutput blocks until the kernel takes more, and sends. A call that drains does so until the
// send queue is empty, or until an interrupt after seen. The caller holds the transmit token.
func (q *queuePair) driveOutput(deadline time.Time, drains bool, seen uint32) {
	q.tx.mu.Lock()
	q.tx.driver = driverStays
	if drains {
		q.tx.driver = driverDrains
	}
	q.tx.mu.Unlock()
	err := q.blockOnOutput(deadline, drains, seen)
	q.tx.mu.Lock()
	q.tx.driver = driverNone
	if err != nil && !isTimeout(err) && q.tx.err == nil {
		q.sendFailed(err)
	}
	q.tx.mu.Unlock()
}

func (q *queuePair) blockOnOutput(deadline time.Time, drains bool, seen uint32) error {
	// At first only for a moment: if the peer takes nothing because it is itself blocked in sending,
	// somebody must read here.
	if soon := time.Now().Add(stallDelay); deadline.IsZero() || soon.Before(deadline) {
		if err := q.writeUntil(soon, drains, seen); err != os.ErrDeadlineExceeded {
			return err
		}
		q.background.stall(q, 1)
		defer q.background.stall(q, -1)
	}
	return q.writeUntil(deadline, drains, seen)
}

// writeUntil returns os.ErrDeadlineExceeded itself only when the deadline has passed, not when the
// call was ended early.
func (q *queuePair) writeUntil(deadline time.Time, drains bool, seen uint32) error {
	q.sock.setWriteDeadline(deadline)
	if q.Err() != nil || drains && q.Draining.Interrupted(seen) {
		return nil
	}
	err := q.blockingWrite(deadline)
	if isTimeout(err) {
		if wait.Expired(deadline) {
			return os.ErrDeadlineExceeded
		}
		return nil
	}
	return err
}

// leaveOutput makes sure that output goes on when nobody drives it any more, and takes over what
// callers have lent until then.
func (q *queuePair) leaveOutput() {
	q.tx.mu.Lock()
	q.keepInline(0)
	if !q.tx.parting {
		q.leaveToBackground()
	}
	q.tx.mu.Unlock()
}
