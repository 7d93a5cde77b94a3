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
	h := ddp.Tagged{ULP: rdmap.Control(rdmap.OpWrite), STag: uint32(stag), TO: offset}
	switch {
	case len(data) <= refThreshold && ddp.TaggedLen+len(data) <= t.maxULPDU:
		q.writeShort(&h, data)
	case t.refers(len(data)):
		q.composeRefs(&h, data)
		q.sealed()
		q.sock.tryWrite()
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
	// What is left waits as the last part of a request, for Drain.
	t.sq.Push(&transport.SendWR{Opcode: transport.OpWrite, Flags: transport.Inline | transport.WillDrain}, 0)
	t.sq.Sent()
	t.out.sends = 1
	return true, true
}

// writeShort writes one FPDU with a copy of data, after those that precede all others. What the
// kernel does not take is left in the batch. The caller holds tx.mu.
func (q *queuePair) writeShort(h *ddp.Tagged, data []byte) {
	t := &q.tx
	h.Last = true
	buf := pool.Get(pool.Small)
	before := 0
	if len(t.control) > 0 {
		before = q.takeControl(*buf)
	}
	fpdu := (*buf)[before:]
	h.Put(fpdu[mpa.LengthLen:])
	copy(fpdu[mpa.LengthLen+ddp.TaggedLen:], data)
	all := (*buf)[:before+len(mpa.Seal(fpdu, ddp.TaggedLen+len(data), t.crc))]
	if to := q.trace.Load(); to != nil {
		traceSent(to, all)
	}
	n, err := q.sock.writeNow(all)
	t.taken += uint64(n)
	if err == nil && n < len(all) {
		t.out.hold(buf, all[n:])
		t.blocked = true
		return
	}
	pool.Put(buf)
	if err != nil {
		q.sendFailed(err)
	}
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
