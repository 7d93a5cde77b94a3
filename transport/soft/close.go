package soft

import (
	"os"
	"time"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/internal/wait"
)

// Close implements transport.QueuePair. What was posted goes on to the peer, as after the Close of
// a socket, for as long as the peer's host answers. The TCP connection is closed as soon as the
// kernel can do the rest alone; see parting.
func (q *queuePair) Close() error { return q.close(false) }

// CloseLast is Close for an end that knows that the peer will send nothing that matters before it
// has taken everything, so that the kernel need not be kept from answering it with a reset.
func (q *queuePair) CloseLast() error { return q.close(true) }

func (q *queuePair) close(last bool) error {
	was, err := q.Shut(false)
	if err != nil {
		return err
	}
	if was.InOrder {
		q.tx.mu.Lock()
		q.tx.parting = true
		q.dropReads()
		q.keepAll()
		q.tx.mu.Unlock()
	}
	q.Regions.Clear()
	switch {
	case was.Leaving: // after a Terminate of ours
		q.keepOutput()
		q.sock.kick()
	case was.InOrder:
		q.sock.kick()
		q.Mu.Lock()
		farewell, deafens := q.farewell, q.deafens
		q.Mu.Unlock()
		q.part(&parting{q: q, last: last, farewell: farewell, deafens: deafens})
	default:
		var lost error
		if was.Connected && q.awaited.Load() {
			lost = q.lost()
		}
		q.closeSock()
		q.over(lost)
	}
	q.serveExposed()
	return nil
}

// lost returns why the peer's host does not have all that was posted on a connection that has
// failed, or nil if it may have.
func (q *queuePair) lost() error {
	q.tx.mu.Lock()
	sent := q.tx.sq.Drained()
	q.tx.mu.Unlock()
	err := q.Err()
	if left, known := q.sock.unacknowledged(); !sent || left > 0 || !known && isFailure(err) {
		return err
	}
	return nil
}

// LeaveEndToPeer makes Close leave it to the peer to end the stream, for up to a second, once
// everything is sent. It is for peers that know that it is over: an rsocket may notice the end of
// the stream sooner than what came before it, and then drops that.
func (q *queuePair) LeaveEndToPeer() {
	q.Mu.Lock()
	q.farewell = true
	q.Mu.Unlock()
}

// LeaveRest implements transport.RestLeaver, where the kernel can be kept from taking what the peer
// sends, as Linux can.
func (q *queuePair) LeaveRest() {
	q.Mu.Lock()
	q.deafens = true
	q.Mu.Unlock()
}

// Abort implements transport.QueuePair.
func (q *queuePair) Abort() error {
	if _, err := q.Shut(true); err != nil {
		return err
	}
	q.Regions.Clear()
	q.abortSock()
	q.over(nil)
	q.serveExposed()
	return nil
}

// over ends what Close has left to be done. With err some of it was lost.
func (q *queuePair) over(err error) {
	q.tx.mu.Lock()
	q.tx.out.reset()
	q.tx.phase.reach(phaseClosing)
	if q.tx.err == nil {
		q.tx.err = transport.ErrClosed
	}
	q.flushSends()
	q.tx.mu.Unlock()
	q.Mu.Lock()
	defer q.Mu.Unlock()
	if err != nil && q.closeErr == nil {
		why := err
		q.closeErr = &why
	}
	q.Over()
}

// WillAwaitClosed makes Close keep the connection until the peer's host has acknowledged
// everything, even where the kernel could do the rest alone. It is for callers of AwaitClosed.
func (q *queuePair) WillAwaitClosed() { q.awaited.Store(true) }

// AwaitClosed waits until what Close has begun is over: the peer's host has acknowledged everything
// (nil), or something was lost (an error). It returns os.ErrDeadlineExceeded if neither has
// happened by the deadline; the kernel may then do the rest alone. WillAwaitClosed must be called
// before Close.
func (q *queuePair) AwaitClosed(deadline time.Time) error {
	for {
		wake := q.Crew.Join()
		q.Mu.Lock()
		leaving, err := q.Leaving(), q.closeErr
		q.Mu.Unlock()
		if leaving && !wait.Expired(deadline) {
			wait.Await(wake, deadline)
		}
		q.Crew.Part()
		switch {
		case !leaving && err == nil:
			return nil
		case !leaving:
			return *err
		case wait.Expired(deadline):
			q.awaited.Store(false)
			return os.ErrDeadlineExceeded
		}
	}
}

// gateHolds reports whether there is still something to send that must wait for the peer's first
// FPDU.
func (q *queuePair) gateHolds() bool {
	q.tx.mu.Lock()
	defer q.tx.mu.Unlock()
	return !q.tx.gateOpen && q.tx.sq.Len() > 0 && q.tx.err == nil
}

// dropReads gives up RDMA Reads in both directions: after Close there is no memory for their data.
// The caller holds tx.mu.
func (q *queuePair) dropReads() {
	t := &q.tx
	t.responses.Clear()
	if t.floor == floorResponse {
		t.floor = floorResponded
	}
	t.reads.Clear()
	t.sq.DropReads()
}

// keepAll sends as much of the send queue as the kernel takes, and takes over the data of the rest:
// after Close there are no regions. The caller holds tx.mu.
func (q *queuePair) keepAll() {
	for i := range q.tx.sq.Len() {
		q.tx.sq.At(i).WR.Flags |= transport.Inline
	}
	q.trySend(true)
	for i := range q.tx.sq.Len() {
		q.tx.sq.At(i).WR.Region = nil
	}
}
