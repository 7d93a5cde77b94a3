package soft

import (
	"github.com/rdmanet/iwarp/transport"
)

// PostSend implements transport.QueuePair.
func (q *queuePair) PostSend(wrs []transport.SendWR) (n int, err error) {
	q.tx.mu.Lock()
	defer q.tx.mu.Unlock()
	// Checked under the lock, so that Close finds everything that was taken.
	if err := q.Ready(); err != nil {
		return 0, err
	}
	if q.tx.err != nil {
		return 0, q.tx.err
	}
	n, drained, err := q.Enqueue(&q.tx.sq, wrs, int(q.tx.ord))
	for i := range n {
		q.tx.queued += len(wrs[i].Data) + fpduOverhead
	}
	// A caller whose request was refused has something else to do first.
	q.trySend(drained)
	return n, err
}

// keepInline takes over what is left of inline data, which belongs to the caller again when
// PostSend returns, except that of requests with the flags. The caller holds tx.mu.
func (q *queuePair) keepInline(but transport.Flags) {
	q.tx.out.keep(but)
	q.tx.sq.KeepInline(but)
}

// keepOutput takes over what lies in memory of the callers and is on its way to the kernel.
func (q *queuePair) keepOutput() {
	q.tx.mu.Lock()
	q.tx.out.keep(0)
	q.tx.mu.Unlock()
}

// retire completes, in order, what is done. The caller holds tx.mu.
func (q *queuePair) retire() {
	news, emptied := q.Retire(&q.tx.sq)
	// The call that waits for this may be the one that reads.
	if news && q.Waiting.Blocked.Load() || emptied && q.Draining.Blocked.Load() {
		q.sock.kickReader()
	}
}

// stopSending flushes the send queue of a queue pair that has failed. None of it may be sent any
// more, because its memory belongs to the callers again. The caller holds tx.mu.
func (q *queuePair) stopSending() {
	q.tx.out.reset()
	q.tx.phase.reach(phaseClosing)
	q.flushSends()
}

// flushSends completes everything on the send queue as flushed. The caller holds tx.mu.
func (q *queuePair) flushSends() {
	q.tx.sq.Flush()
	q.tx.reads.Clear()
	q.tx.responses.Clear()
	q.tx.queued, q.tx.floor = 0, q.tx.floor.finish()
	if !q.tx.out.empty() {
		q.tx.out.sends = 0
	}
	q.retire()
}
