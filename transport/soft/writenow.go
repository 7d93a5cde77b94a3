package soft

import (
	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/internal/pool"
	"github.com/rdmanet/iwarp/transport/soft/internal/ddp"
	"github.com/rdmanet/iwarp/transport/soft/internal/mpa"
	"github.com/rdmanet/iwarp/transport/soft/internal/rdmap"
)

// WriteNow implements transport.NowWriter, with one FPDU that does not go by way of the send queue.
func (q *queuePair) WriteNow(stag transport.STag, offset uint64, data []byte) (posted, left bool) {
	t := &q.tx
	if len(data) == 0 || len(data) > refThreshold {
		return false, false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !q.Healthy() || !t.idle() || ddp.TaggedLen+len(data) > t.maxULPDU {
		return false, false
	}
	buf := pool.Get(pool.Small)
	(&ddp.Tagged{Last: true, ULP: rdmap.Control(rdmap.OpWrite), STag: uint32(stag), TO: offset}).Put((*buf)[mpa.LengthLen:])
	copy((*buf)[mpa.LengthLen+ddp.TaggedLen:], data)
	fpdu := mpa.Seal(*buf, ddp.TaggedLen+len(data), t.crc)
	n, err := q.sock.writeNow(fpdu)
	switch {
	case err != nil:
		pool.Put(buf)
		q.sendFailed(err)
		return false, false // PostSend says why
	case n < len(fpdu):
		// What is left waits as the last part of a request, for Drain.
		t.out.hold(buf, fpdu[n:])
		t.sq.Push(&transport.SendWR{Opcode: transport.OpWrite, Flags: transport.Inline | transport.WillDrain}, 0)
		t.sq.Sent()
		t.out.sends, t.blocked = 1, true
	default:
		pool.Put(buf)
	}
	t.taken += uint64(n)
	t.unseen = !t.heard
	return true, n < len(fpdu)
}

// idle reports whether what is posted next could be sent at once.
func (t *transmitter) idle() bool {
	return t.large && t.gateOpen && t.err == nil && t.phase.composes() && t.out.empty() &&
		t.sq.Len() == 0 && t.responses.Len() == 0 && len(t.control) == 0
}
