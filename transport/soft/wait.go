package soft

import (
	"errors"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rdmanet/iwarp/transport"
)

// errAgain is the answer of a step after which its caller looks at its condition again.
var errAgain = errors.New("look again")

// A condition is what calls of Wait, or those of Drain, wait for.
type condition struct {
	holds func() (bool, error) // with an error: it never will

	// asked counts the interrupts. Each ends the calls that were there at the time, or the next
	// one: a call ends if there are more than taken was when it began.
	asked, taken atomic.Uint32

	// reading is true while a call is blocked in reading the socket, and has to be kicked when
	// somebody else makes the condition hold.
	reading atomic.Bool
}

func (c *condition) begin() (seen uint32)         { return c.taken.Load() }
func (c *condition) interrupted(seen uint32) bool { return c.asked.Load() != seen }
func (c *condition) take() error {
	c.taken.Store(c.asked.Load())
	return transport.ErrInterrupted
}

// Wait implements transport.QueuePair.
func (q *queuePair) Wait(deadline time.Time) error {
	err := q.waitFor(&q.waiting, q.waiting.begin(), deadline)
	if err == nil && q.placed.Load() {
		q.placed.Store(false) // what is placed from now on is news again
	}
	return err
}

// drained reports whether everything on the send queue has been sent, and otherwise why it never
// will be. What the kernel has taken is sent, whatever becomes of the connection after that.
func (q *queuePair) drained() (bool, error) {
	q.tx.mu.Lock()
	sent, err := q.tx.sq.len == 0 && !q.tx.lost, q.tx.err
	q.tx.mu.Unlock()
	if sent {
		return true, nil
	}
	if why := q.Err(); err == nil || errors.Is(err, syscall.EPIPE) && isFailure(why) {
		err = why // a broken pipe is what is left of it once a read has taken the reset
	}
	return false, err
}

// Drain implements transport.QueuePair.
func (q *queuePair) Drain(deadline time.Time) error {
	seen := q.draining.begin()
	for drove := false; ; drove = true {
		if ok, err := q.drained(); ok || err != nil {
			if drove {
				q.leaveOutput() // answers to the peer may be left
			}
			return err
		}
		q.tx.mu.Lock()
		blocked := q.tx.blocked
		q.tx.mu.Unlock()
		if !blocked {
			// The gate is closed or a read is outstanding: what is missing comes from the peer.
			err := q.waitFor(&q.draining, seen, deadline)
			if err != nil {
				q.leaveOutput()
			}
			return err
		}
		if err := q.waitWritable(seen, deadline); err != errAgain {
			q.leaveOutput()
			return err
		}
	}
}

// waitFor reads the socket, or waits for the one who does, until c holds.
func (q *queuePair) waitFor(c *condition, seen uint32, deadline time.Time) error {
	for {
		if ok, err := c.holds(); ok || err != nil {
			return err
		}
		if c.interrupted(seen) {
			return c.take()
		}
		if expired(deadline) {
			return os.ErrDeadlineExceeded
		}
		select {
		case <-q.rxTok:
		default:
			if !q.follow(c, seen, deadline) {
				continue
			}
		}
		err := q.drive(c, seen, deadline)
		turn := q.rx.turn.end()
		q.rxTok <- struct{}{}
		if err != errAgain {
			return err
		}
		if turn.over() {
			q.giveWay(&turn, c, seen, deadline)
		}
	}
}

// drive reads and handles what there is once. The caller holds the receive token.
func (q *queuePair) drive(c *condition, seen uint32, deadline time.Time) error {
	q.sock.setReadDeadline(q.rx.stallDeadline(q, deadline))
	c.reading.Store(true)
	defer c.reading.Store(false)
	// Whoever interrupts, closes or completes something does so first and kicks the socket then, so
	// one of the two is seen.
	if ok, err := c.holds(); ok || err != nil {
		return err
	}
	if !c.interrupted(seen) {
		q.receive(c, true)
	}
	return errAgain
}

// Look reads and handles once what has arrived, for the next call of Poll, unless another call
// waits for that. It does not block, and returns false if there was nothing.
func (q *queuePair) Look() bool {
	if !q.healthy.Load() {
		return false
	}
	select {
	case <-q.rxTok:
		err := q.receive(nil, false)
		turn := q.rx.turn.end()
		q.rxTok <- struct{}{}
		return err == nil && !turn.wasIdle()
	default:
		return false
	}
}

// follow waits while somebody else drives. It reports whether the caller has the receive token now.
func (q *queuePair) follow(c *condition, seen uint32, deadline time.Time) bool {
	wake := q.join()
	defer q.followers.Add(-1)
	// News from before wake was made is found here, later news closes it.
	if ok, err := c.holds(); ok || err != nil || c.interrupted(seen) {
		return false
	}
	return await(q.rxTok, wake, deadline)
}

// await waits for a token, news or the deadline. It reports whether the caller has the token now.
func await(token, wake <-chan struct{}, deadline time.Time) bool {
	var expiry <-chan time.Time
	if !deadline.IsZero() {
		timer := time.NewTimer(time.Until(deadline))
		defer timer.Stop()
		expiry = timer.C
	}
	select {
	case <-token:
		return true
	case <-wake:
	case <-expiry:
	}
	return false
}

// join makes the caller one of the followers, whom the channel wakes.
func (q *queuePair) join() chan struct{} {
	q.followers.Add(1)
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.wake == nil {
		q.wake = make(chan struct{})
	}
	return q.wake
}

// waitWritable sends until the kernel has taken everything that can be sent now.
func (q *queuePair) waitWritable(seen uint32, deadline time.Time) error {
	if q.draining.interrupted(seen) {
		return q.draining.take()
	}
	if expired(deadline) {
		return os.ErrDeadlineExceeded
	}
	select {
	case <-q.txTok:
	default:
		wake := q.join()
		defer q.followers.Add(-1)
		if ok, err := q.drained(); ok || err != nil || q.draining.interrupted(seen) {
			return errAgain
		}
		if !await(q.txTok, wake, deadline) {
			return errAgain
		}
	}
	q.driveOutput(deadline, true, seen)
	q.txTok <- struct{}{}
	return errAgain
}

// driveOutput blocks until the kernel takes more, and sends. One who drains does so until the
// send queue is empty, or an interrupt after seen. The caller holds the transmit token.
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
	// First for a moment only: if the peer does not take anything because it is itself blocked
	// in sending, somebody must read here.
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
	if q.Err() != nil || drains && q.draining.interrupted(seen) {
		return nil
	}
	err := q.sock.blockingWrite(&q.tx.mu)
	if isTimeout(err) {
		if expired(deadline) {
			return os.ErrDeadlineExceeded
		}
		return nil
	}
	return err
}

// leaveOutput sees to it that output goes on when nobody drives it any more.
func (q *queuePair) leaveOutput() {
	q.tx.mu.Lock()
	if !q.tx.parting {
		q.leaveToBackground()
	}
	q.tx.mu.Unlock()
}
