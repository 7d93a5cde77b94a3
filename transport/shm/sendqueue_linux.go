package shm

import (
	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/internal/regions"
)

// An outstandingRead is an RDMA Read of ours whose response is not complete.
type outstandingRead struct {
	to, size, done uint64
	sink           *regions.Region
}

// A readResponse is an answer that the peer is waiting for.
type readResponse struct {
	src  *regions.Region // nil for an empty read
	to   uint64
	left uint64
}

// PostSend implements transport.QueuePair.
func (q *queuePair) PostSend(wrs []transport.SendWR) (n int, err error) {
	q.tx.mu.Lock()
	// Checked under the lock, so that Close finds everything that was taken.
	if err := q.Ready(); err != nil {
		q.tx.mu.Unlock()
		return 0, err
	}
	if err := q.tx.err; err != nil {
		q.tx.mu.Unlock()
		return 0, err
	}
	n, drained, err := q.Enqueue(&q.tx.sq, wrs, q.tx.maxOutstanding)
	q.flush()
	if q.tx.sq.Pending() {
		q.tx.sq.KeepInline(transport.Lent)
	}
	q.tx.mu.Unlock()
	if !drained {
		// A caller whose request was refused has something else to do first.
		q.leaveOutput()
	}
	return n, err
}

// retire completes, in order, what is done. The caller holds tx.mu.
func (q *queuePair) retire() {
	news, emptied := q.Retire(&q.tx.sq)
	// The call that waits for this may be the one that sleeps.
	if c := q.sleep.on.Load(); c != nil && (news && c == &q.Waiting || emptied && c == &q.Draining) {
		q.kick()
	}
}

// readDone completes the oldest outstanding read. The caller holds tx.mu.
func (q *queuePair) readDone(status transport.Status) {
	q.tx.reads.Pop()
	q.tx.sq.ReadDone(status)
	q.retire()
}

// stopSending ends the send queue for good. The caller holds tx.mu.
func (q *queuePair) stopSending(err error) {
	if q.tx.err == nil {
		q.tx.err = err
	}
	q.flushSends()
}

// flushSends completes everything on the send queue as flushed. The caller holds tx.mu.
func (q *queuePair) flushSends() {
	t := &q.tx
	t.sq.Flush()
	t.reads.Clear()
	t.responses.Clear()
	t.note(false)
	q.retire()
}
