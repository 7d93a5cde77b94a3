package soft

import (
	"errors"
	"math"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/internal/regions"
)

// maxMessage is the longest RDMAP message (RFC 5040 §5.1).
const maxMessage = math.MaxUint32

var (
	errNoLocalRegion = errors.New("work request needs a live local region of this queue pair with the right access")
	errNotInRegion   = errors.New("data does not lie in its memory region")
	errTooLong       = errors.New("message is longer than 2^32-1 bytes; split it")
	errOpcode        = errors.New("opcode cannot be posted to a send queue")
	errNoReads       = errors.New("the peer accepts no rdma reads on this connection")
	errInlineRead    = errors.New("an rdma read cannot be inline")
	errSegment       = errors.New("segment size is out of range; use 1024 to 65544 bytes")
)

type sendState uint8

const (
	sendQueued  sendState = iota // not all of it is composed into FPDUs
	sendWaiting                  // a read: requested, its response is not complete
	sendDone
)

// A sendEntry is a work request on the send queue. Entries complete in the order in which they were
// posted.
type sendEntry struct {
	wr     transport.SendWR
	off    int     // payload bytes already composed
	base   uint64  // payload bytes that were composed before Data was cut
	own    *[]byte // from the pool: the rest of inline data that could not be sent at once
	sinkTO uint64  // reads: where Data lies in its region
	state  sendState
	status transport.Status
}

// sendQueue is a ring of entries that grows up to the depth of the queue.
type sendQueue struct {
	ring []sendEntry // its length is a power of two
	head int
	len  int
	next int // entries from head on that are composed
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
	e := q.at(0)
	if e.own != nil {
		putBuf(e.own)
	}
	*e = sendEntry{}
	q.head = (q.head + 1) & (len(q.ring) - 1)
	q.len--
	q.next = max(q.next-1, 0)
}

// check finds what is wrong with a work request before it is queued.
func (q *queuePair) check(wr *transport.SendWR) (sinkTO uint64, err error) {
	if uint64(len(wr.Data)) > maxMessage {
		return 0, errTooLong
	}
	r, _ := wr.Region.(*regions.Region)
	switch wr.Opcode {
	case transport.OpRead:
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
	defer q.tx.mu.Unlock()
	// Checked under the lock, so that Close finds everything that was taken.
	if err := q.ready(); err != nil {
		return 0, err
	}
	if q.tx.err != nil {
		return 0, q.tx.err
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
		q.tx.queued += len(wr.Data) + fpduOverhead
	}
	if err == nil {
		n = len(wrs)
	}
	// A caller whose request was refused has something else to do first.
	q.trySend(drained && err == nil)
	return n, err
}

// ready returns why nothing can be posted to the send queue, or nil.
func (q *queuePair) ready() error {
	if q.healthy.Load() {
		return nil
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

// keepInline takes over what is left of inline data, which belongs to the caller again when
// PostSend returns. The caller holds tx.mu.
func (q *queuePair) keepInline() {
	q.tx.out.keep()
	for i := q.tx.sq.next; i < q.tx.sq.len; i++ {
		e := q.tx.sq.at(i)
		if e.wr.Flags&transport.Inline == 0 || e.own != nil || e.off == len(e.wr.Data) {
			continue
		}
		rest := e.wr.Data[e.off:]
		e.own = getBuf(len(rest))
		// What comes before off is composed and not looked at again.
		e.wr.Data = (*e.own)[:copy(*e.own, rest)]
		e.base += uint64(e.off)
		e.off = 0
	}
}

// keepOutput takes over what lies in memory of the callers and is on its way to the kernel.
func (q *queuePair) keepOutput() {
	q.tx.mu.Lock()
	q.tx.out.keep()
	q.tx.mu.Unlock()
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
	// The call that waits for this may be the one that reads.
	if news && q.waiting.Blocked.Load() || sq.len == 0 && q.draining.Blocked.Load() {
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
	for i := range q.tx.sq.len {
		e := q.tx.sq.at(i)
		if e.state != sendDone {
			e.state = sendDone
			if e.status == transport.StatusSuccess {
				e.status = transport.StatusFlushed
			}
			q.tx.lost = q.tx.lost || !q.tx.drainers || e.wr.Flags&transport.WillDrain != 0
		}
	}
	q.tx.sq.next = q.tx.sq.len
	q.tx.reads.Clear()
	q.tx.responses.Clear()
	q.tx.queued, q.tx.floor, q.tx.out.sends = 0, q.tx.floor.finish(), 0
	q.retire()
}
