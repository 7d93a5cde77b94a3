package soft

import (
	"errors"
	"os"
	"sync/atomic"
	"time"

	"github.com/rdmanet/iwarp/transport"
)

// errAgain is the answer of a step after which its caller looks at its condition again.
var errAgain = errors.New("look again")

// Wait implements transport.QueuePair.
func (q *QueuePair) Wait(deadline time.Time) error {
	return q.waitFor(q.isPollable, &q.interruptWait, deadline)
}

// drained reports whether the send queue is empty, and otherwise why it never will be.
func (q *QueuePair) drained() (bool, error) {
	q.tx.mu.Lock()
	empty, err := q.tx.sq.len == 0, q.tx.err
	q.tx.mu.Unlock()
	if err == nil && !empty {
		err = q.Err()
	}
	return empty && err == nil, err
}

// Drain implements transport.QueuePair.
func (q *QueuePair) Drain(deadline time.Time) error {
	for {
		if ok, err := q.drained(); ok || err != nil {
			return err
		}
		q.tx.mu.Lock()
		blocked := q.tx.blocked
		q.tx.mu.Unlock()
		if !blocked {
			// The gate is closed or a read is outstanding: what is missing comes from the peer.
			q.draining.Add(1)
			err := q.waitFor(q.isDrained, &q.interruptDrain, deadline)
			q.draining.Add(-1)
			return err
		}
		if err := q.waitWritable(deadline); err != errAgain {
			return err
		}
	}
}

// waitFor reads the socket, or waits for the one who does, until ready answers.
func (q *QueuePair) waitFor(ready func() (bool, error), interrupted *atomic.Bool, deadline time.Time) error {
	for {
		if ok, err := ready(); ok || err != nil {
			return err
		}
		if interrupted.Swap(false) {
			return transport.ErrInterrupted
		}
		if expired(deadline) {
			return os.ErrDeadlineExceeded
		}
		select {
		case <-q.rxTok:
		default:
			if !q.follow(ready, interrupted, deadline) {
				continue
			}
		}
		err := q.drive(ready, interrupted, deadline)
		q.rxTok <- struct{}{}
		if err != errAgain {
			return err
		}
	}
}

// drive reads and handles what there is once. The caller holds the receive token.
func (q *QueuePair) drive(ready func() (bool, error), interrupted *atomic.Bool, deadline time.Time) error {
	// The one who drove before may have done what the caller waits for.
	if ok, err := ready(); ok || err != nil {
		return err
	}
	q.sock.setReadDeadline(q.rx.stallDeadline(q, deadline))
	// Whoever interrupts or closes sets its mark first and kicks the socket then, so one of the two is seen.
	if interrupted.Load() || q.Err() != nil {
		return errAgain
	}
	q.receive()
	return errAgain
}

// follow waits while somebody else drives. It reports whether the caller has the receive token now.
func (q *QueuePair) follow(ready func() (bool, error), interrupted *atomic.Bool, deadline time.Time) bool {
	q.mu.Lock()
	if q.wake == nil {
		q.wake = make(chan struct{})
	}
	wake := q.wake
	q.mu.Unlock()
	// News from before wake was made is found here, later news closes it.
	if ok, err := ready(); ok || err != nil || interrupted.Load() {
		return false
	}
	var expiry <-chan time.Time
	if !deadline.IsZero() {
		timer := time.NewTimer(time.Until(deadline))
		defer timer.Stop()
		expiry = timer.C
	}
	select {
	case <-q.rxTok:
		return true
	case <-wake:
	case <-expiry:
	}
	return false
}

// waitWritable sends until the kernel has taken everything that can be sent now.
func (q *QueuePair) waitWritable(deadline time.Time) error {
	if q.interruptDrain.Swap(false) {
		q.leaveOutput()
		return transport.ErrInterrupted
	}
	if expired(deadline) {
		q.leaveOutput()
		return os.ErrDeadlineExceeded
	}
	var expiry <-chan time.Time
	select {
	case <-q.txTok:
	default:
		if !deadline.IsZero() {
			timer := time.NewTimer(time.Until(deadline))
			defer timer.Stop()
			expiry = timer.C
		}
		q.mu.Lock()
		if q.wake == nil {
			q.wake = make(chan struct{})
		}
		wake := q.wake
		q.mu.Unlock()
		if ok, err := q.drained(); ok || err != nil || q.interruptDrain.Load() {
			return errAgain
		}
		select {
		case <-q.txTok:
		case <-wake:
			return errAgain
		case <-expiry:
			return errAgain
		}
	}
	q.driveOutput(deadline)
	q.txTok <- struct{}{}
	return errAgain
}

// driveOutput blocks until the kernel takes more, and sends. The caller holds the transmit token.
func (q *QueuePair) driveOutput(deadline time.Time) {
	q.tx.mu.Lock()
	q.tx.driven = true
	q.tx.mu.Unlock()
	err := q.blockOnOutput(deadline)
	q.tx.mu.Lock()
	q.tx.driven = false
	if err != nil && !isTimeout(err) && q.tx.err == nil {
		q.sendFailed(err)
	}
	q.tx.mu.Unlock()
}

func (q *QueuePair) blockOnOutput(deadline time.Time) error {
	// First for a moment only: if the peer does not take anything because it is itself blocked
	// in sending, somebody must read here.
	if soon := time.Now().Add(stallDelay); deadline.IsZero() || soon.Before(deadline) {
		if err := q.writeUntil(soon); err != os.ErrDeadlineExceeded {
			return err
		}
		q.background.stall(q, 1)
		defer q.background.stall(q, -1)
	}
	return q.writeUntil(deadline)
}

// writeUntil returns os.ErrDeadlineExceeded itself only when the deadline has passed, not when the call was ended early.
func (q *QueuePair) writeUntil(deadline time.Time) error {
	q.sock.setWriteDeadline(deadline)
	if q.interruptDrain.Load() || q.Err() != nil {
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
func (q *QueuePair) leaveOutput() {
	q.tx.mu.Lock()
	if q.tx.blocked && !q.tx.driven {
		q.finishOutput()
	}
	q.tx.mu.Unlock()
}
