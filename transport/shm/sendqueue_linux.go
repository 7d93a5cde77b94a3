package shm

import (
	"errors"
	"math"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/internal/regions"
)

// maxMessage is the longest message.
const maxMessage = math.MaxUint32

var (
	errNoLocalRegion = errors.New("work request needs a live local region of this queue pair with the right access")
	errNotInRegion   = errors.New("data does not lie in its memory region")
	errTooLong       = errors.New("message is longer than 2^32-1 bytes; split it")
	errOpcode        = errors.New("opcode cannot be posted to a send queue")
	errNoReads       = errors.New("the peer accepts no rdma reads on this connection")
	errInlineRead    = errors.New("an rdma read cannot be inline")
)

type sendState uint8

const (
	sendQueued  sendState = iota // not all of it is in the peer's ring
	sendWaiting                  // a read: requested, its response is not complete
	sendDone
)

// A sendEntry is a work request on the send queue. Entries complete in the order in which they were
// posted.
type sendEntry struct {
	wr     transport.SendWR
	off    int    // payload bytes already sent
	base   uint64 // payload bytes that were sent before Data was cut
	own    bool   // Data is a copy
	small  [64]byte
	sinkTO uint64 // reads: where Data lies in its region
	state  sendState
	status transport.Status
}

// sendQueue is a ring of entries that grows up to the depth of the queue.
type sendQueue struct {
	ring []sendEntry // its length is a power of two
	head int
	len  int
	next int // entries from head on that are sent
}

func (q *sendQueue) at(i int) *sendEntry { return &q.ring[(q.head+i)&(len(q.ring)-1)] }

func (q *sendQueue) push() *sendEntry {
	if q.len == len(q.ring) {
		bigger := make([]sendEntry, max(4, 2*len(q.ring)))
		n := copy(bigger, q.ring[min(q.head, len(q.ring)):])
		copy(bigger[n:], q.ring[:q.head])
		q.ring, q.head = bigger, 0
	}
	q.len++
	return q.at(q.len - 1)
}

func (q *sendQueue) pop() {
	*q.at(0) = sendEntry{}
	q.head = (q.head + 1) & (len(q.ring) - 1)
	q.len--
	q.next = max(q.next-1, 0)
}

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

// check finds what is wrong with a work request before it is queued.
func (q *queuePair) check(wr *transport.SendWR) (sinkTO uint64, err error) {
	if uint64(len(wr.Data)) > maxMessage {
		return 0, errTooLong
	}
	switch wr.Opcode {
	case transport.OpRead:
		r, _ := wr.Region.(*regions.Region)
		if wr.Flags&transport.Inline != 0 {
			return 0, errInlineRead
		}
		if q.tx.maxOutstanding == 0 {
			return 0, errNoReads
		}
		if r == nil || r.Access&transport.LocalWrite == 0 || !q.regions.Holds(r) {
			return 0, errNoLocalRegion
		}
		off, ok := r.Offset(wr.Data)
		if !ok && len(wr.Data) > 0 {
			return 0, errNotInRegion
		}
		return off, nil
	case transport.OpSend, transport.OpSendInvalidate, transport.OpWrite:
		if wr.Flags&transport.Inline != 0 || len(wr.Data) == 0 {
			return 0, nil
		}
		r, _ := wr.Region.(*regions.Region)
		if r == nil || !q.regions.Holds(r) {
			return 0, errNoLocalRegion
		}
		if _, ok := r.Offset(wr.Data); !ok {
			return 0, errNotInRegion
		}
		return 0, nil
	}
	return 0, errOpcode
}

// PostSend implements transport.QueuePair.
func (q *queuePair) PostSend(wrs []transport.SendWR) (n int, err error) {
	q.tx.mu.Lock()
	// Checked under the lock, so that Close finds everything that was taken.
	if err := q.ready(); err != nil {
		q.tx.mu.Unlock()
		return 0, err
	}
	drained := true
	for n = range wrs {
		wr := &wrs[n]
		if q.tx.sq.len == q.opts.SendDepth {
			err = transport.ErrQueueFull
			break
		}
		var to uint64
		if to, err = q.check(wr); err != nil {
			break
		}
		e := q.tx.sq.push()
		e.wr, e.sinkTO = *wr, to
		will := wr.Flags&transport.WillDrain != 0
		q.tx.drainers = q.tx.drainers || will
		drained = drained && will
	}
	if err == nil {
		n = len(wrs)
	}
	q.flush()
	if q.tx.sq.next < q.tx.sq.len {
		q.keepInline(transport.Lent)
	}
	q.tx.mu.Unlock()
	if !drained || err != nil {
		// A caller whose request was refused has something else to do first.
		q.leaveOutput()
	}
	return n, err
}

// ready returns why nothing can be posted to the send queue, or nil. The caller holds tx.mu.
func (q *queuePair) ready() error {
	if q.healthy.Load() {
		return q.tx.err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.err != nil:
		return q.err
	case !q.connected:
		return transport.ErrNotConnected
	}
	return nil
}

// keepInline takes over what is left of inline data, except that of requests with the flags. The
// caller holds tx.mu.
func (q *queuePair) keepInline(but transport.Flags) {
	for i := q.tx.sq.next; i < q.tx.sq.len; i++ {
		if e := q.tx.sq.at(i); e.wr.Flags&transport.Inline != 0 && e.wr.Flags&but == 0 {
			e.keep()
		}
	}
}

// keep takes over what is left of the data of e.
func (e *sendEntry) keep() {
	if e.own || e.off == len(e.wr.Data) {
		return
	}
	e.wr.Data = append(e.small[:0], e.wr.Data[e.off:]...)
	e.base += uint64(e.off)
	e.off, e.own = 0, true
}

// retire completes, in order, what is done. The caller holds tx.mu.
func (q *queuePair) retire() {
	sq := &q.tx.sq
	if sq.len == 0 || sq.at(0).state != sendDone {
		return
	}
	news := false
	for sq.len > 0 && sq.at(0).state == sendDone {
		e := sq.at(0)
		if e.wr.Flags&transport.Signaled != 0 || e.status != transport.StatusSuccess {
			c := transport.Completion{ID: e.wr.ID, Opcode: e.wr.Opcode, Status: e.status}
			if e.wr.Opcode == transport.OpRead {
				c.Bytes = len(e.wr.Data)
			}
			q.mu.Lock()
			q.complete(c)
			q.mu.Unlock()
			news = true
		}
		sq.pop()
	}
	// A follower that is not counted yet finds the queue empty before it sleeps.
	if sq.len == 0 && q.crew.Followed() {
		q.mu.Lock()
		q.crew.Wake()
		q.mu.Unlock()
	}
	// The call that waits for this may be the one that sleeps.
	if c := q.sleep.on.Load(); c != nil && (news && c == &q.waiting || sq.len == 0 && c == &q.draining) {
		q.kick()
	}
}

// readDone completes the oldest outstanding read. The caller holds tx.mu.
func (q *queuePair) readDone(status transport.Status) {
	q.tx.reads.Pop()
	for i := range q.tx.sq.next {
		if e := q.tx.sq.at(i); e.state == sendWaiting {
			e.state, e.status = sendDone, status
			break
		}
	}
	q.retire()
}

// flushSends completes everything on the send queue as flushed. The caller holds tx.mu.
func (q *queuePair) flushSends() {
	t := &q.tx
	for i := range t.sq.len {
		e := t.sq.at(i)
		if e.state != sendDone {
			e.state = sendDone
			if e.status == transport.StatusSuccess {
				e.status = transport.StatusFlushed
			}
			t.lost = t.lost || !t.drainers || e.wr.Flags&transport.WillDrain != 0
		}
	}
	t.sq.next = t.sq.len
	t.reads.Clear()
	t.responses.Clear()
	t.note(false)
	q.retire()
}
