//go:build amd64 || arm64

package rnic

import (
	"os"
	"syscall"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/rnic/internal/abi"
)

// Poll implements transport.QueuePair.
func (q *queuePair) Poll(wc []transport.Completion) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := copy(wc, q.early)
	q.early = q.early[:copy(q.early, q.early[n:])]
	news := false
	// What was found early is enough for one call.
	for full := n == 0; full && n < len(wc) && !q.closed; {
		asked := min(len(wc)-n, pollMax)
		raw, k := q.poll(wc[n:])
		n += k
		news = news || raw > 0
		full = raw == asked
	}
	if news && q.others.Load() != 0 {
		q.rouse() // of which the calls of Wait see nothing
	}
	return n
}

// poll moves completions of the device to wc, and returns how many there were, and how many of them
// are the user's. The caller holds mu.
func (q *queuePair) poll(wc []transport.Completion) (raw, n int) {
	if !q.remains.usable() {
		return 0, 0
	}
	s := getScratch()
	defer s.release()
	r := s.call(q.pollCQ, q.cq, uintptr(min(len(wc), pollMax)), ptr(&s.wcs[0]))
	raw = int(int32(r))
	if raw < 0 {
		q.noteEnd(transport.StateError, brokenBy(os.NewSyscallError("ibv_poll_cq", number(r))))
		return 0, 0
	}
	for i := range raw {
		var mine bool
		if wc[n], mine = q.complete(&s.wcs[i]); mine {
			n++
		}
	}
	return raw, n
}

// reap moves all completions that are there to early, for a caller who wants to know what they set
// free.
func (q *queuePair) reap() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.reapSome() > 0 {
		q.rouse()
	}
}

// reapSome moves some completions to early, and returns how many there were. Those that come after
// Close wait until the device has let go. The caller holds mu.
func (q *queuePair) reapSome() int {
	var wc [pollMax / 2]transport.Completion
	raw, n := q.poll(wc[:])
	if q.closed {
		q.late = append(q.late, wc[:n]...)
	} else {
		q.early = append(q.early, wc[:n]...)
	}
	return raw
}

// complete records a completion, and reports whether the user must be told. The caller holds mu.
func (q *queuePair) complete(w *abi.WC) (c transport.Completion, mine bool) {
	mine = true
	c.Status = status(w.Status)
	number := w.WrID &^ receiveBit
	if w.WrID&receiveBit != 0 {
		c.ID, c.Opcode = q.rq.ids[number&q.rq.mask], transport.OpRecv
		q.rq.tail.Store(number + 1)
		if w.Status == abi.WCSuccess {
			q.heard = true
			c.Bytes = int(w.ByteLen)
			q.received(w, &c)
		}
	} else {
		e := &q.sq.entries[number&q.sq.mask]
		c.ID, c.Opcode = e.id, e.op
		q.sq.tail.Store(number + 1)
		q.sq.lost = q.sq.lost || w.Status != abi.WCSuccess && !e.own
		mine = !e.own && (!e.silent || w.Status != abi.WCSuccess)
		if w.Status == abi.WCSuccess && e.op == transport.OpRead {
			c.Bytes = int(w.ByteLen)
		}
	}
	if w.Status != abi.WCSuccess {
		q.broken(w, c.Opcode)
	}
	return c, mine
}

func (q *queuePair) received(w *abi.WC, c *transport.Completion) {
	if w.Opcode == abi.WCRecvRDMAWithImm {
		c.Opcode = transport.OpRecvImmediate
	}
	switch {
	case w.WcFlags&abi.WCWithImm != 0:
		c.Immediate = swap(w.ImmData)
	case w.WcFlags&abi.WCWithInv != 0:
		c.Invalidated = transport.STag(w.ImmData)
	}
}

// broken records a request that failed, with which the connection is at its end. One that was
// flushed tells only that this has happened before. The caller holds mu.
func (q *queuePair) broken(w *abi.WC, op transport.Opcode) {
	if w.Status == abi.WCWrFlushErr {
		if op == transport.OpRead {
			q.noteEnd(transport.StateError, errUnanswered)
		}
		q.noteEnd(transport.StateError, endOfStream)
		return
	}
	cause := syscall.ECONNRESET
	switch w.Status {
	case abi.WCRetryExcErr, abi.WCRnrRetryExcErr, abi.WCRespTimeoutErr:
		cause = syscall.ETIMEDOUT
	}
	q.noteEnd(transport.StateError, &completionError{w.Status, w.VendorErr, cause})
	q.flush()
}

// finish hands out what came after Close, and makes completions of what was posted when the device
// let go of the queue pair. The caller holds mu.
func (q *queuePair) finish() {
	q.early = append(q.early, q.late...)
	q.late = nil
	for number := q.sq.tail.Load(); number != q.sq.head.Load(); number++ {
		if e := &q.sq.entries[number&q.sq.mask]; !e.own {
			q.early = append(q.early, transport.Completion{ID: e.id, Opcode: e.op, Status: transport.StatusFlushed})
		}
	}
	q.sq.tail.Store(q.sq.head.Load())
	for number := q.rq.tail.Load(); number != q.rq.head.Load(); number++ {
		q.early = append(q.early, transport.Completion{ID: q.rq.ids[number&q.rq.mask], Opcode: transport.OpRecv, Status: transport.StatusFlushed})
	}
	q.rq.tail.Store(q.rq.head.Load())
}

func status(s uint32) transport.Status {
	switch s {
	case abi.WCSuccess:
		return transport.StatusSuccess
	case abi.WCWrFlushErr:
		return transport.StatusFlushed
	case abi.WCLocLenErr:
		return transport.StatusLocalLength
	case abi.WCLocProtErr, abi.WCLocQPOpErr, abi.WCLocAccessErr:
		return transport.StatusLocalProtection
	case abi.WCRemAccessErr, abi.WCRemInvReqErr:
		return transport.StatusRemoteAccess
	}
	return transport.StatusRemoteOperation
}
