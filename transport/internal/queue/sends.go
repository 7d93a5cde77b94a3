package queue

import (
	"sync"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/internal/pool"
)

// A SendState says how far a work request has come.
type SendState uint8

const (
	SendQueued  SendState = iota // not all of it is handed over to what is below
	SendWaiting                  // a read: requested, its response is not complete
	SendDone
)

// A Send is a work request on the send queue.
type Send struct {
	WR     transport.SendWR
	Off    int    // payload bytes already handed over
	Base   uint64 // payload bytes that were handed over before WR.Data was cut
	SinkTO uint64 // reads: where WR.Data lies in its region
	State  SendState
	Status transport.Status

	own *[]byte // from the pool: a copy of what is left of the payload
}

// Rest returns the payload that is still to be handed over.
func (e *Send) Rest() []byte { return e.WR.Data[e.Off:] }

// Kept reports whether the payload is a copy, which needs no region.
func (e *Send) Kept() bool { return e.own != nil }

// Keep takes a copy of what is left of the payload, whose memory is the caller's again.
func (e *Send) Keep() {
	rest := e.Rest()
	if e.own != nil || len(rest) == 0 {
		return
	}
	e.own = pool.Get(len(rest))
	// What comes before Off is handed over and not looked at again.
	e.WR.Data = (*e.own)[:copy(*e.own, rest)]
	e.Base += uint64(e.Off)
	e.Off = 0
}

// Sends is a send queue. Its entries complete in the order in which they were posted. It is a ring
// that grows up to the depth of the queue, which its user bounds.
type Sends struct {
	*sends        // nil while there are none
	drainers bool // requests with WillDrain were posted, so that Drain is about these
	lost     bool // requests that Drain is about were flushed
}

type sends struct {
	ring []Send // its length is a power of two
	head int
	len  int
	next int // entries from head on that are handed over
}

// mostLent is the size of the largest ring that is lent: a queue that has needed a deeper one needs
// it again, and others would hold its memory for little.
const mostLent = 32

// queues are lent, so that an empty one holds none.
var queues = sync.Pool{New: func() any { return &sends{ring: make([]Send, 4)} }}

// Len returns how many there are.
func (q *Sends) Len() int {
	if q.sends == nil {
		return 0
	}
	return q.len
}

// Pending reports whether some are not handed over.
func (q *Sends) Pending() bool { return q.sends != nil && q.next < q.len }

// Drained reports whether everything that Drain is about was sent.
func (q *Sends) Drained() bool { return q.Len() == 0 && !q.lost }

// At returns entry i from the oldest on. It is valid until the next Push or Pop.
func (q *Sends) At(i int) *Send { return &q.ring[(q.head+i)&(len(q.ring)-1)] }

// Next returns the first that is not handed over, which must exist.
func (q *Sends) Next() *Send { return q.At(q.next) }

// Sent records that all of the next one is handed over.
func (q *Sends) Sent() { q.next++ }

// Push appends wr, which must have been checked.
func (q *Sends) Push(wr *transport.SendWR, sinkTO uint64) {
	if q.sends == nil {
		q.sends = queues.Get().(*sends)
	}
	if q.len == len(q.ring) {
		bigger := make([]Send, 2*len(q.ring))
		n := copy(bigger, q.ring[min(q.head, len(q.ring)):])
		copy(bigger[n:], q.ring[:q.head])
		q.ring, q.head = bigger, 0
	}
	q.len++
	e := q.At(q.len - 1)
	e.WR, e.SinkTO = *wr, sinkTO
	q.drainers = q.drainers || wr.Flags&transport.WillDrain != 0
}

// Pop removes the oldest, which must exist.
func (q *Sends) Pop() {
	e := q.At(0)
	if e.own != nil {
		pool.Put(e.own)
	}
	*e = Send{}
	q.head = (q.head + 1) & (len(q.ring) - 1)
	q.len--
	q.next = max(q.next-1, 0)
	if q.len == 0 && len(q.ring) <= mostLent {
		queues.Put(q.sends)
		q.sends = nil
	}
}

// Sendable reports whether the next one may be handed over, while there are reads under way, of
// which there may be most.
func (q *Sends) Sendable(reads, most int) bool {
	for q.Pending() && q.Next().State == SendDone {
		q.next++ // given up before it was handed over
	}
	if !q.Pending() {
		return false
	}
	e := q.Next()
	if e.WR.Flags&transport.Fence != 0 && reads > 0 {
		return false
	}
	return e.WR.Opcode != transport.OpRead || reads < most
}

// KeepInline has what is left of inline data kept, except that of requests with the flags.
func (q *Sends) KeepInline(but transport.Flags) {
	if q.sends == nil {
		return
	}
	for i := q.next; i < q.len; i++ {
		if e := q.At(i); e.WR.Flags&transport.Inline != 0 && e.WR.Flags&but == 0 {
			e.Keep()
		}
	}
}

// KeepAll has everything kept that is left.
func (q *Sends) KeepAll() {
	if q.sends == nil {
		return
	}
	for i := q.next; i < q.len; i++ {
		q.At(i).Keep()
	}
}

// ReadDone ends the oldest read that is under way.
func (q *Sends) ReadDone(status transport.Status) {
	if q.sends == nil {
		return
	}
	for i := range q.next {
		if e := q.At(i); e.State == SendWaiting {
			e.State, e.Status = SendDone, status
			return
		}
	}
}

// DropReads gives up all reads.
func (q *Sends) DropReads() {
	for i := range q.Len() {
		if e := q.At(i); e.WR.Opcode == transport.OpRead && e.State != SendDone {
			e.State, e.Status = SendDone, transport.StatusFlushed
		}
	}
}

// Flush ends all that are not done. Those without a status of their own were flushed.
func (q *Sends) Flush() {
	for i := range q.Len() {
		e := q.At(i)
		if e.State == SendDone {
			continue
		}
		e.State = SendDone
		if e.Status == transport.StatusSuccess {
			e.Status = transport.StatusFlushed
		}
		q.lost = q.lost || !q.drainers || e.WR.Flags&transport.WillDrain != 0
	}
	if q.sends != nil {
		q.next = q.len
	}
}
