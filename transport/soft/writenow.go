package soft

import (
	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/internal/pool"
	"github.com/rdmanet/iwarp/transport/soft/internal/ddp"
	"github.com/rdmanet/iwarp/transport/soft/internal/mpa"
	"github.com/rdmanet/iwarp/transport/soft/internal/rdmap"
)

// WriteNow implements transport.NowWriter, with FPDUs that do not go by way of the send queue.
func (q *queuePair) WriteNow(stag transport.STag, offset uint64, data []byte) (posted, left bool) {
	t := &q.tx
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(data) == 0 || !q.Healthy() || !t.idle() {
		return false, false
	}
	switch {
	case len(data) <= refThreshold && ddp.TaggedLen+len(data) <= t.maxULPDU:
		q.writeShort(stag, offset, data)
	case t.refers(len(data)):
		q.writeRefs(stag, offset, data)
	default:
		return false, false
	}
	t.unseen = !t.heard
	switch {
	case t.err != nil:
		return false, false // PostSend says why
	case t.out.empty():
		return true, false
	}
	t.pushRest()
	return true, true
}

// pushRest has what is left of a batch wait as the last part of a request, for Drain.
func (t *transmitter) pushRest() {
	t.sq.Push(&transport.SendWR{Opcode: transport.OpWrite, Flags: transport.Inline | transport.WillDrain}, 0)
	t.sq.Sent()
	t.out.sends = 1
}

// writeShort writes one FPDU with a copy of data, after those that precede all others. What the
// kernel does not take is left in the batch. The caller holds tx.mu.
//
// The frames from here down to the system call are kept small: with those of a Write they fit on
// the stack that a goroutine begins with. It would otherwise be copied, and stay twice as large for
// as long as the goroutine waits in Read.
func (q *queuePair) writeShort(stag transport.STag, offset uint64, data []byte) {
	t := &q.tx
	buf := pool.Get(pool.Small)
	before := q.putShort(*buf, stag, offset, data)
	all := (*buf)[:before+len(mpa.Seal((*buf)[before:], ddp.TaggedLen+len(data), t.crc))]
	if q.trace.Load() != nil {
		q.traceShort(all)
	}
	n, err := q.sock.writeNow(all)
	t.taken += uint64(n)
	if err != nil || n < len(all) {
		q.notTaken(buf, all[n:], err)
		return
	}
	pool.Put(buf)
}

// putShort puts what precedes all others, and an FPDU with data that is still to be sealed, into b.
// It returns where the FPDU begins.
func (q *queuePair) putShort(b []byte, stag transport.STag, offset uint64, data []byte) (before int) {
	if len(q.tx.control) > 0 {
		before = q.takeControl(b)
	}
	b = b[before+mpa.LengthLen:]
	h := ddp.Tagged{Last: true, ULP: rdmap.Control(rdmap.OpWrite), STag: uint32(stag), TO: offset}
	h.Put(b)
	copy(b[ddp.TaggedLen:], data)
	return before
}

// traceShort has the trace, if there is one, record what is sent.
func (q *queuePair) traceShort(b []byte) {
	if to := q.trace.Load(); to != nil {
		traceSent(to, b)
	}
}

// notTaken acts on a write of what is in buf that has left the rest, or has failed.
func (q *queuePair) notTaken(buf *[]byte, rest []byte, err error) {
	if err != nil {
		pool.Put(buf)
		q.sendFailed(err)
		return
	}
	q.tx.out.hold(buf, rest)
	q.tx.blocked = true
}

// writeRefs writes data in FPDUs whose payloads stay where they lie. The caller holds tx.mu.
func (q *queuePair) writeRefs(stag transport.STag, offset uint64, data []byte) {
	q.composeRefs(&ddp.Tagged{ULP: rdmap.Control(rdmap.OpWrite), STag: uint32(stag), TO: offset}, data)
	q.sealed()
	q.sock.tryWrite()
}

// refers reports whether one batch takes n bytes in FPDUs whose payloads stay where they lie.
func (t *transmitter) refers(n int) bool {
	payload := t.maxULPDU - ddp.TaggedLen
	return payload > refThreshold && 2*(n/payload+2)+1 <= maxPieces
}

// composeRefs fills the empty batch with what precedes all others, and with data. It is still to
// be sealed.
func (q *queuePair) composeRefs(h *ddp.Tagged, data []byte) {
	t := &q.tx
	b := &t.out
	b.begin(pool.Small)
	if n := len(t.control); n > 0 {
		q.takeControl(b.header(n))
	}
	n := min(len(data), t.maxULPDU-ddp.TaggedLen)
	if len(data) >= trapSize {
		n = trapLead
	}
	for len(data) > 0 {
		h.Last = n == len(data)
		start := b.used
		h.Put(b.header(mpa.LengthLen + ddp.TaggedLen)[mpa.LengthLen:])
		b.finish(start, ddp.TaggedLen, data[:n], t.crc, n > refThreshold)
		h.TO += uint64(n)
		data = data[n:]
		n = min(len(data), t.maxULPDU-ddp.TaggedLen)
	}
}

// idle reports whether what is posted next could be sent at once.
func (t *transmitter) idle() bool {
	return t.large && t.gateOpen && t.err == nil && t.phase.composes() && t.out.empty() &&
		t.sq.Len() == 0 && t.responses.Len() == 0
}
