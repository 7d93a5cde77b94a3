package shm

import (
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/internal/queue"
	"github.com/rdmanet/iwarp/transport/internal/regions"
)

const (
	// leastPiece is how much of a longer payload is worth a record of its own.
	leastPiece = 4 << 10
	// rewindAt is how far into the ring a connection with little traffic gets before it starts
	// again at the front, so that it uses little memory, and little of the processor's caches. It is
	// also the least that can be written after that while the peer does not read.
	rewindAt = 32 << 10
	// publishAt is how much is written before a peer that sleeps may read it, where both ends share a
	// processor. Elsewhere it wakes up while the rest is written, and looks for that.
	publishAt = 64 << 10
)

// A transmitter copies work requests into the peer's ring. mu guards all of it.
type transmitter struct {
	mu             sync.Mutex
	out            *segment // nil before the start and after the end
	pos            uint64   // written
	skipped        uint64   // of that, what was left out
	told           uint64   // of pos, what the peer knows of
	head           uint64   // of the peer, as seen last
	looks          uint32   // of watch, and one more, when the peer was seen to live
	sq             queue.Sends
	reads          queue.FIFO[outstandingRead] // requested by us, in order
	responses      queue.FIFO[readResponse]    // requested by the peer, in order
	maxOutstanding int                         // ORD
	responded      bool                        // the last record was a response
	ended          bool                        // the peer was told that nothing more comes
	err            error                       // nothing more can be sent
	surplus

	// Summaries for those who look often. They change with mu held.
	blocked atomic.Bool // a record waits for room, and the peer was asked to report some, or for the next flush
	pending atomic.Bool // something is left to be sent
}

// note sets the summaries.
func (t *transmitter) note(blocked bool) {
	if t.blocked.Load() != blocked {
		t.blocked.Store(blocked)
	}
	if left := t.sq.Pending() || t.responses.Len() > 0; t.pending.Load() != left {
		t.pending.Store(left)
	}
}

// push sends what there was no room for, if there is some now. It reports whether it has made
// progress.
func (q *queuePair) push() bool {
	if !q.tx.pending.Load() {
		return false
	}
	q.tx.mu.Lock()
	defer q.tx.mu.Unlock()
	before := q.tx.pos
	q.flush()
	return q.tx.pos != before
}

// flush sends as much as there is room for, but at most one ring of it: the peer may make room as
// fast as we fill it, and whoever sends has a deadline. The caller holds tx.mu.
func (q *queuePair) flush() {
	t := &q.tx
	if t.out == nil {
		return
	}
	defer q.survive(debug.SetPanicOnFault(true))
	end := t.pos + t.out.size()
	for again := false; ; again = true {
		before := t.pos
		blocked := q.compose(end)
		q.publish()
		t.note(blocked)
		if blocked && t.pos >= end {
			q.kick() // the peer, which was not asked for room, wakes nobody for the rest
			return
		}
		// The peer may have made room, and woken this end, before the summaries said that it was
		// waited for. One that says so without making room gets no more than another look.
		if !blocked || t.out.writer.Load() != 0 || again && t.pos == before {
			return
		}
	}
}

// compose puts records into the ring, and reports whether it ended for want of room, or at end.
func (q *queuePair) compose(end uint64) (blocked bool) {
	t := &q.tx
	for t.err == nil {
		canSend, canRespond := t.sq.Sendable(t.reads.Len(), t.maxOutstanding), t.responses.Len() > 0
		if !canSend && !canRespond {
			break
		}
		if t.pos >= end {
			return true
		}
		var ok bool
		if canRespond && !(canSend && t.responded) {
			ok = q.respond()
		} else {
			ok = q.sendNext()
		}
		if !ok {
			return t.err == nil
		}
	}
	return false
}

// sendNext sends a record of the next work request. It returns false if there is no room.
func (q *queuePair) sendNext() bool {
	t := &q.tx
	e := t.sq.Next()
	h := header{stag: uint32(e.WR.RemoteSTag), offset: e.WR.RemoteOffset}
	if e.WR.Opcode == transport.OpRead {
		return q.sendRead(e, &h)
	}
	left := len(e.Rest())
	n, ok := q.fit(left)
	if !ok {
		return false
	}
	if left > 0 && e.WR.Flags&transport.Inline == 0 && !e.Kept() {
		q.Regions.RLock()
		defer q.Regions.RUnlock()
		if r, _ := e.WR.Region.(*regions.Region); !q.Regions.Live(r) {
			e.Status = transport.StatusLocalProtection
			q.refuse(faultCatastrophic)
			return false
		}
	}
	h.length = uint32(n)
	if n == left {
		h.flags = flagLast
	}
	if e.WR.Opcode == transport.OpWrite {
		h.op = opWrite
		h.offset += e.Base + uint64(e.Off)
	} else {
		h.op = opSend
		if e.WR.Flags&transport.Solicited != 0 {
			h.flags |= flagSolicited
		}
		if e.WR.Opcode == transport.OpSendInvalidate {
			h.flags |= flagInvalidate
			h.stag = uint32(e.WR.Invalidate)
		}
	}
	q.put(&h, e.Rest()[:n])
	e.Off += n
	if n == left {
		e.State = queue.SendDone
		t.sq.Sent()
		t.responded = false
		q.retire()
	}
	return true
}

// sendRead sends the request of an RDMA Read.
func (q *queuePair) sendRead(e *queue.Send, h *header) bool {
	t := &q.tx
	if _, ok := q.fit(0); !ok {
		return false
	}
	h.op, h.size = opReadRequest, uint32(len(e.WR.Data))
	q.put(h, nil)
	r, _ := e.WR.Region.(*regions.Region)
	t.reads.Push(outstandingRead{to: e.SinkTO, size: uint64(len(e.WR.Data)), sink: r})
	e.State = queue.SendWaiting
	t.sq.Sent()
	t.responded = false
	return true
}

// respond sends a record of the oldest answer.
func (q *queuePair) respond() bool {
	t := &q.tx
	r := t.responses.Front()
	n, ok := q.fit(int(min(r.left, maxPiece)))
	if !ok {
		return false
	}
	h := header{op: opReadResponse, length: uint32(n)}
	var payload []byte
	if n > 0 {
		q.Regions.RLock()
		defer q.Regions.RUnlock()
		if !q.Regions.Live(r.src) {
			q.refuse(faultReadSTag) // revoked while the read was on its way: nothing of it may leave any more
			return false
		}
		payload = r.src.Mem[r.to : r.to+uint64(n)]
	}
	if uint64(n) == r.left {
		h.flags = flagLast
	}
	q.put(&h, payload)
	r.to, r.left = r.to+uint64(n), r.left-uint64(n)
	if h.flags != 0 {
		t.responses.Pop()
		t.responded = true
	}
	return true
}

// fit returns how many of left bytes the next record can have. Where there is no room for it the
// peer is asked to report some. The caller holds tx.mu.
func (q *queuePair) fit(left int) (n int, ok bool) {
	t := &q.tx
	if t.trimming { // which sends what is left once it is done
		t.out.writer.Store(1)
		return 0, false
	}
	n = min(left, maxPiece)
	least := recordLen(uint64(min(n, leastPiece)))
	for asked := false; ; asked = true {
		room, ok := q.room()
		if !ok {
			return 0, false
		}
		if room >= least {
			n = min(n, int(room-headerLen))
			q.rewind(room, left)
			return n, true
		}
		if asked {
			return 0, false
		}
		t.out.writer.Store(1)
	}
}

// room returns how many bytes of the ring are free. The caller holds tx.mu.
func (q *queuePair) room() (n uint64, ok bool) {
	t := &q.tx
	head := t.out.head.Load()
	if head-t.head > t.pos-t.head || head%headerLen != 0 {
		q.refuse(faultRing)
		return 0, false
	}
	t.head = head
	return t.out.size() - (t.pos - head), true
}

// rewind puts the next record at the front of the ring if nothing is in the ring and the front has
// room for more than the n bytes of payload that are left of the message. What it skips counts as
// written until the peer has read it, so the peer must be waiting: one that does not read has room
// for as much as the ring has.
func (q *queuePair) rewind(room uint64, n int) {
	t := &q.tx
	at := t.pos & (t.out.size() - 1)
	if room < t.out.size() || at < rewindAt || 2*recordLen(uint64(n)) > at || t.out.reader.Load() == awake {
		return
	}
	t.out.putHeader(t.pos, &header{op: opSkip})
	t.pos += t.out.size() - at
	t.skipped += t.out.size() - at
}

// put writes a record. There must be room. The caller holds tx.mu, and publishes.
func (q *queuePair) put(h *header, payload []byte) {
	t := &q.tx
	t.out.putHeader(t.pos, h)
	if len(payload) > 0 {
		a, b := t.out.pieces(t.pos+headerLen, uint64(len(payload)))
		copy(b, payload[copy(a, payload):])
	}
	if !t.wide && t.pos&(t.out.size()-1)+recordLen(uint64(len(payload))) > firstSize-headerSize {
		q.spread()
	}
	t.pos += recordLen(uint64(len(payload)))
	if n := t.pos - t.told; n >= publishAt || n >= maxPiece && (!alone || t.out.isAwake()) {
		q.publish()
	}
}

// publish lets the peer know of what was written, and wakes it if it sleeps. The caller holds
// tx.mu.
func (q *queuePair) publish() {
	t := &q.tx
	if t.pos == t.told || t.out == nil {
		return
	}
	t.told = t.pos
	t.out.tail.Store(t.pos)
	q.rouse()
}

// refuse stops sending, and terminates the connection, for a fault found while something is sent.
// The caller holds tx.mu.
func (q *queuePair) refuse(f *fault) {
	if q.tx.err == nil {
		q.tx.err = f.error(true)
		go q.terminate(f)
	}
}

// takeOver takes over data that the caller of Drain has left, as that is the caller's again.
func (q *queuePair) takeOver() {
	q.tx.mu.Lock()
	q.tx.sq.KeepInline(0)
	q.tx.mu.Unlock()
}
