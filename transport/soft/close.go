package soft

import (
	"os"
	"sync/atomic"
	"time"

	"github.com/rdmanet/iwarp/transport"
)

// Close implements transport.QueuePair. The TCP connection is closed when the peer has closed too or has
// acknowledged everything; closed any earlier, a kernel answers what is still on its way with a reset, and with that a
// peer may lose what it had not read yet.
func (q *QueuePair) Close() error {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return transport.ErrClosed
	}
	q.closed = true
	already := q.leaving
	inOrder := q.err == nil && q.connected
	q.end(transport.StateClosing, transport.ErrClosed)
	q.leaving = already || inOrder
	q.broadcast()
	q.mu.Unlock()
	if inOrder {
		q.tx.mu.Lock()
		q.dropReads()
		q.keepAll()
		q.tx.mu.Unlock()
	}
	q.regions.clear()
	switch {
	case already: // after a Terminate of ours
		q.keepOutput()
		q.sock.kick()
	case inOrder:
		q.sock.kick()
		q.seeOff()
	default:
		q.sock.close()
		q.over()
	}
	q.serveExposed()
	return nil
}

// farewellLimit is how long the end of the stream is left to the peer.
const farewellLimit = time.Second

// LeaveEndToPeer has Close leave it to the peer to end the stream, for a moment, once everything is sent. It is for peers that know that
// it is over: an rsocket may notice the end of the stream sooner than what came before it, and then drops that.
func (q *QueuePair) LeaveEndToPeer() { q.farewell.Store(true) }

// Abort implements transport.QueuePair.
func (q *QueuePair) Abort() error {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return transport.ErrClosed
	}
	q.closed = true
	q.end(transport.StateError, transport.ErrClosed)
	q.state = transport.StateError
	q.leaving = false
	q.broadcast()
	q.mu.Unlock()
	q.regions.clear()
	q.sock.abort()
	q.over()
	q.serveExposed()
	return nil
}

// over ends what Close has left to be sent.
func (q *QueuePair) over() {
	q.tx.mu.Lock()
	q.tx.out.reset()
	q.tx.closing = true
	if q.tx.err == nil {
		q.tx.err = transport.ErrClosed
	}
	q.flushSends()
	q.tx.mu.Unlock()
	q.mu.Lock()
	q.leaving = false
	if q.state == transport.StateClosing {
		q.state = transport.StateError
	}
	q.broadcast()
	q.mu.Unlock()
}

// AwaitClosed waits until what Close has begun is over: the peer's host has acknowledged everything, or the connection is given up.
// It returns os.ErrDeadlineExceeded if that is not so by the deadline.
func (q *QueuePair) AwaitClosed(deadline time.Time) error {
	for {
		wake := q.join()
		q.mu.Lock()
		leaving := q.leaving
		q.mu.Unlock()
		if leaving && !expired(deadline) {
			await(nil, wake, deadline)
		}
		q.followers.Add(-1)
		switch {
		case !leaving:
			return nil
		case expired(deadline):
			return os.ErrDeadlineExceeded
		}
	}
}

// seeOff sends what is left, ends the stream and discards what comes until the peer ends it too. It is done at once where
// nothing has to be waited for.
func (q *QueuePair) seeOff() {
	farewell := q.farewell.Load() && q.State() == transport.StateClosing
	if !farewell && !q.gateHolds() && q.sendRest(0, false) && q.discard(0, nil) {
		q.sock.close()
		q.over()
		return
	}
	go func() {
		patience := q.cfg.linger
		if q.State() == transport.StateTerminate {
			patience = terminateLimit
		}
		q.waitGate(time.Now().Add(q.cfg.RequestTimeout))
		if q.sendRest(0, farewell) || q.sendWhileReading(time.Now().Add(patience)) {
			q.awaitEnd(patience)
		}
		q.sock.close()
		q.over()
	}()
}

// awaitEnd discards what comes until the peer has ended the stream or has acknowledged everything, as long as it gets on
// with that.
func (q *QueuePair) awaitEnd(patience time.Duration) {
	most := time.Now().Add(lingerMost)
	end := time.Now().Add(patience)
	step := lingerFirst
	for before := q.sock.unacknowledged(); !expired(end) && !expired(most); {
		if q.discard(min(time.Until(end), step), nil) {
			return
		}
		step = min(2*step, lingerProgress)
		left := q.sock.unacknowledged()
		if left == 0 {
			return
		}
		if left < before && q.State() != transport.StateTerminate {
			end = time.Now().Add(patience)
		}
		before = left
	}
}

// sendWhileReading is sendRest up to a deadline, for a peer that may be blocked in sending itself, and so reads nothing unless
// somebody reads here.
func (q *QueuePair) sendWhileReading(until time.Time) bool {
	var enough atomic.Bool
	read := make(chan struct{})
	go func() {
		defer close(read)
		for left := time.Until(until); left > 0 && !enough.Load() && !q.discard(left, &enough); left = time.Until(until) {
		}
	}()
	sent := q.sendRest(time.Until(until), false)
	enough.Store(true)
	q.sock.kickReader()
	<-read
	return sent
}

// gateHolds reports whether something is left to be sent that has to wait for the peer's first FPDU.
func (q *QueuePair) gateHolds() bool {
	q.tx.mu.Lock()
	defer q.tx.mu.Unlock()
	return !q.tx.gateOpen && q.tx.sq.len > 0 && q.tx.err == nil
}

// waitGate receives until the gate opens.
func (q *QueuePair) waitGate(deadline time.Time) {
	for q.gateHolds() && !expired(deadline) {
		<-q.rxTok
		q.sock.setReadDeadline(deadline)
		err := q.receive(nil)
		q.rxTok <- struct{}{}
		if err != nil && !isTimeout(err) {
			return
		}
	}
}

// sendRest sends what is left and ends the stream in this direction, after the peer if farewell leaves it the time. It reports
// whether that is done.
func (q *QueuePair) sendRest(patience time.Duration, farewell bool) bool {
	end := time.Now().Add(patience)
	for {
		q.tx.mu.Lock()
		if q.tx.err == nil {
			q.sock.tryWrite()
		}
		done := q.tx.err != nil || !q.tx.blocked
		q.tx.mu.Unlock()
		if done {
			if farewell {
				q.discard(farewellLimit, nil)
			}
			q.sock.c.CloseWrite()
			return true
		}
		if !time.Now().Before(end) {
			return false
		}
		<-q.txTok
		q.sock.setWriteDeadline(end)
		err := q.sock.blockingWrite(&q.tx.mu)
		q.txTok <- struct{}{}
		if err != nil && !isTimeout(err) {
			return false
		}
	}
}

// discard reads and forgets until the peer has ended the stream, which it reports, or patience is at its end, or, after a
// kick, enough is true.
func (q *QueuePair) discard(patience time.Duration, enough *atomic.Bool) bool {
	if patience == 0 {
		select {
		case <-q.rxTok:
		default:
			return false
		}
	} else {
		<-q.rxTok
	}
	defer func() { q.rxTok <- struct{}{} }()
	rx := &q.rx
	if rx.buf != nil {
		rx.r, rx.w = 0, 0
	}
	end := time.Now().Add(patience)
	for reads := 1; ; reads++ {
		rx.n, rx.err = 0, nil
		var err error
		if patience == 0 {
			if !q.sock.tryRead() {
				return false
			}
		} else {
			q.sock.setReadDeadline(end)
			if enough != nil && enough.Load() {
				return false
			}
			err = q.sock.blockingRead()
			if isTimeout(err) && time.Now().Before(end) {
				continue // a kick of before
			}
		}
		done := err == nil && (rx.err != nil || rx.n == 0) || err != nil && !isTimeout(err)
		rx.release()
		if done {
			return true
		}
		// One who has no patience does not listen to a peer that has no end either.
		if err != nil || !time.Now().Before(end) && (patience > 0 || reads == 16) {
			return false
		}
	}
}

// dropReads gives up RDMA Reads in both directions: after Close there is no memory for their data. The caller holds tx.mu.
func (q *QueuePair) dropReads() {
	t := &q.tx
	t.responses.clear()
	t.midResponse = false
	t.reads.clear()
	for i := range t.sq.len {
		if e := t.sq.at(i); e.wr.Opcode == transport.OpRead && e.state != sendDone {
			e.state, e.status = sendDone, transport.StatusFlushed
		}
	}
}

// keepAll sends what the kernel takes of the send queue and takes over the data of the rest: after Close there are no regions.
// The caller holds tx.mu.
func (q *QueuePair) keepAll() {
	for i := range q.tx.sq.len {
		q.tx.sq.at(i).wr.Flags |= transport.Inline
	}
	q.trySend(true)
}
