package shm

import (
	"io"
	"os"
	"syscall"
	"time"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/internal/regions"
	"github.com/rdmanet/iwarp/transport/internal/wait"
	"github.com/rdmanet/iwarp/transport/internal/work"
)

const (
	// enough is how many bytes are taken before checking whether the caller has what it waits for. The
	// caller may then have a better place for the next ones.
	enough = 32 << 10
	// turn is how many records are taken before others get their turn.
	turn = 512
)

// A receiver takes records from the ring. The holder of the token owns it.
type receiver struct {
	pos     uint64 // read
	skipped uint64 // of that, what was left out
	ird     int
	moff    uint64 // bytes placed of the Send under way
	mid     bool   // a Send is under way
	torn    bool   // the last record was a part of a message, and not its last
	records int    // since others had their turn
	output  bool   // something became due to be sent
}

// pause lets others run after a turn.
func (rx *receiver) pause() wait.Pause {
	if rx.records >= turn {
		return wait.Yield
	}
	return wait.NoPause
}

// receive takes records: all of them or, if there are many, as many as it takes to make c hold or
// as one turn allows. It reports whether there was something. The caller holds the token.
func (q *queuePair) receive(c *wait.Condition) (some bool) {
	rx := &q.rx
	if rx.records >= turn {
		rx.records = 0
	}
	patience := restTime
	for begin := rx.pos; rx.records < turn; some = true {
		if some && c != nil && rx.pos-begin >= enough {
			if ok, _ := q.Holds(c); ok {
				break
			}
		}
		avail := q.in.tail.Load() - rx.pos
		if avail == 0 {
			if !some {
				rx.records = 0
				return q.ended()
			}
			if !rx.torn || !q.lookForRest(&patience) {
				break
			}
			continue
		}
		rx.records++
		f := q.record(avail)
		if f != nil {
			q.terminate(f)
			return true
		}
		q.giveRoom()
	}
	q.sendDue()
	return some
}

// sendDue sends what became due.
func (q *queuePair) sendDue() {
	if !q.rx.output {
		return
	}
	q.rx.output = false
	q.tx.mu.Lock()
	q.flush()
	q.tx.mu.Unlock()
}

// giveRoom tells the sender how far its records are read, and wakes it once it has much room.
func (q *queuePair) giveRoom() {
	in := q.in
	in.head.Store(q.rx.pos)
	if in.writer.Load() != 0 && (in.tail.Load()-q.rx.pos <= in.size()/2) && in.writer.CompareAndSwap(1, 0) {
		q.rouse()
	}
}

// record handles one record of avail bytes that are there.
func (q *queuePair) record(avail uint64) *fault {
	rx, in := &q.rx, q.in
	if avail > in.size() || avail%headerLen != 0 {
		return faultRing
	}
	h := in.header(rx.pos)
	if h.op == opSkip {
		rest := in.size() - rx.pos&(in.size()-1)
		if rest > avail {
			return faultRing
		}
		rx.pos += rest
		rx.skipped += rest
		return nil
	}
	n := uint64(h.length)
	if recordLen(n) > avail || h.op >= opEnd {
		return faultRing
	}
	a, b := in.pieces(rx.pos+headerLen, n)
	if f := q.handle(&h, a, b); f != nil {
		return f
	}
	rx.pos += recordLen(n)
	rx.torn = h.op != opReadRequest && h.flags&flagLast == 0
	return nil
}

// ended acts on the end of what the peer sends, if it has come and all before it is read.
func (q *queuePair) ended() bool {
	end := q.in.end.Load()
	if end == endNone {
		return false
	}
	if q.in.tail.Load() != q.rx.pos {
		return true
	}
	switch kind := end & 0xff; {
	case kind == endTerminated:
		q.terminatedBy(faultOf(end))
	case kind == endClosed && !q.rx.mid:
		q.fail(transport.StateError, io.EOF)
	case kind == endClosed:
		q.fail(transport.StateError, io.ErrUnexpectedEOF)
	default:
		q.fail(transport.StateError, os.NewSyscallError("read", syscall.ECONNRESET))
	}
	return true
}

// peerDied is called when the peer's socket is closed. What it wrote before is in the ring.
func (q *queuePair) peerDied() {
	if q.in.tail.Load() != q.rx.pos || q.ended() {
		return
	}
	q.fail(transport.StateError, io.ErrUnexpectedEOF)
}

// terminatedBy ends the queue pair for a fault that the peer has found.
func (q *queuePair) terminatedBy(f *fault) {
	q.tx.mu.Lock()
	if q.tx.reads.Len() > 0 && f.layer == layerRDMAP {
		status := transport.StatusRemoteAccess
		if f.typ == typeRemoteOperation {
			status = transport.StatusRemoteOperation
		}
		q.readDone(status)
	}
	q.tx.mu.Unlock()
	q.fail(transport.StateTerminate, f.error(false))
}

// terminate ends the connection for a fault of the peer's, and tells the peer. After Close there is
// none: nobody takes a Send any more, and what was posted before is still on its way.
func (q *queuePair) terminate(f *fault) {
	err := f.error(true)
	q.tx.mu.Lock()
	first := q.End(transport.StateTerminate, err)
	if first {
		q.tellEnd(f.end(), false)
		q.stopSending(err)
	}
	q.tx.mu.Unlock()
	if first {
		q.kick()
	}
}

// Terminate ends the connection for a fault of the peer's that the user of the queue pair has
// found. The peer is told of an unspecified remote operation error (RFC 5040 §4.8). Close must
// still be called.
func (q *queuePair) Terminate() { q.terminate(faultRemoteOperation) }

func (q *queuePair) handle(h *header, a, b []byte) *fault {
	switch h.op {
	case opWrite:
		return q.handleWrite(h, a, b)
	case opSend:
		return q.handleSend(h, a, b)
	case opReadRequest:
		return q.handleReadRequest(h)
	case opReadResponse:
		return q.handleReadResponse(h, a, b)
	}
	return faultOpcode
}

// handleWrite places a part of an RDMA Write.
func (q *queuePair) handleWrite(h *header, a, b []byte) *fault {
	if h.length == 0 {
		return nil // nothing is placed, so nothing is checked
	}
	q.Regions.RLock()
	defer q.Regions.RUnlock()
	r := q.Regions.Lookup(transport.STag(h.stag))
	if r == nil || r.Access&transport.RemoteWrite == 0 {
		return faultWriteSTag
	}
	if !r.Inside(h.offset, uint64(h.length)) {
		return faultWriteBounds
	}
	if r.Placer == nil {
		copy(r.Mem[h.offset:], a)
		copy(r.Mem[h.offset+uint64(len(a)):], b)
		return nil
	}
	off := h.offset
	for _, p := range [...][]byte{a, b} {
		if len(p) == 0 {
			continue
		}
		news, err := r.Placer.Place(off, p)
		if err != nil {
			return faultWriteBounds
		}
		if news {
			q.TellPlaced()
		}
		off += uint64(len(p))
	}
	return nil
}

// handleSend places a part of a Send in the oldest receive and completes it with the last one.
func (q *queuePair) handleSend(h *header, a, b []byte) *fault {
	rx := &q.rx
	last := h.flags&flagLast != 0
	invalidates := last && h.flags&flagInvalidate != 0
	off := rx.moff
	rx.moff += uint64(h.length)
	c := transport.Completion{Opcode: transport.OpRecv, Bytes: int(rx.moff), Solicited: h.flags&flagSolicited != 0}
	done := &c
	if !last || invalidates {
		done = nil
	}
	if f := placeFault(q.PlaceSend(off, a, b, done)); f != nil {
		return f
	}
	var f *fault
	if invalidates {
		c.Invalidated = transport.STag(h.stag)
		if f = invalidateFault(q.Regions.Invalidate(c.Invalidated)); f != nil {
			c.Status, c.Invalidated = transport.StatusInvalidateFailed, 0
		}
		q.TakeRecv(c)
	}
	if rx.mid = !last; last {
		rx.moff = 0
	}
	return f
}

func placeFault(v work.Verdict) *fault {
	switch v {
	case work.NoBuffer:
		return faultNoBuffer
	case work.TooLong:
		return faultTooLong
	case work.NoMemory:
		return faultCatastrophic
	}
	return nil
}

func invalidateFault(v regions.Verdict) *fault {
	switch v {
	case regions.Unknown:
		return faultInvalidate
	case regions.Forbidden:
		return faultInvalidateOther
	}
	return nil
}

// handleReadRequest queues the answer to an RDMA Read.
func (q *queuePair) handleReadRequest(h *header) *fault {
	resp := readResponse{to: h.offset, left: uint64(h.size)}
	if h.size > 0 {
		var f *fault
		if resp.src, f = q.readSource(h); f != nil {
			return f
		}
	}
	q.tx.mu.Lock()
	defer q.tx.mu.Unlock()
	if q.tx.responses.Len() >= q.rx.ird {
		return faultNoBuffer
	}
	q.tx.responses.Push(resp)
	q.rx.output = true
	return nil
}

func (q *queuePair) readSource(h *header) (*regions.Region, *fault) {
	r, v := q.Regions.Source(transport.STag(h.stag), h.offset, uint64(h.size))
	switch v {
	case regions.Unknown:
		return nil, faultReadSTag
	case regions.Forbidden:
		return nil, faultReadAccess
	case regions.Outside:
		return nil, faultReadBounds
	}
	return r, nil
}

// handleReadResponse places a part of the answer to our oldest RDMA Read. Every part is checked
// against what was asked for, not only the last.
func (q *queuePair) handleReadResponse(h *header, a, b []byte) *fault {
	q.tx.mu.Lock()
	defer q.tx.mu.Unlock()
	if q.tx.reads.Len() == 0 {
		return faultOpcode
	}
	read := q.tx.reads.Front()
	n, last := uint64(h.length), h.flags&flagLast != 0
	if left := read.size - read.done; n > left || last != (n == left) || !last && n == 0 {
		return faultWriteBounds
	}
	if n > 0 && !q.placeResponse(read, a, b) {
		return faultWriteSTag
	}
	read.done += n
	if last {
		q.readDone(transport.StatusSuccess)
		// A further read, or what a fence held back until this one, may go now.
		q.rx.output = q.rx.output || q.tx.sq.Pending()
	}
	return nil
}

// placeResponse returns false if the memory to read to is no longer registered.
func (q *queuePair) placeResponse(read *outstandingRead, a, b []byte) bool {
	q.Regions.RLock()
	defer q.Regions.RUnlock()
	if !q.Regions.Live(read.sink) {
		return false
	}
	at := read.to + read.done
	n := copy(read.sink.Mem[at:], a)
	copy(read.sink.Mem[at+uint64(n):], b)
	return true
}

// restTime is how long a call looks at most for the rest of a message that has begun to come: about
// as long as it would take to wake up again, and several times what the next record takes.
const restTime = 10 * time.Microsecond

// lookForRest looks for the rest of a message, for as long as patience says, of which it takes off
// what it has used. It reports whether there is more.
func (q *queuePair) lookForRest(patience *time.Duration) bool {
	if alone {
		return false
	}
	q.sendDue() // which must not wait for the rest
	began := time.Now()
	some := lookFor(func() bool { return q.in.tail.Load() != q.rx.pos }, began, *patience)
	*patience = max(*patience-time.Since(began), 0)
	return some
}
