package soft

import (
	"sync"

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
	case len(data) <= refThreshold && ddp.TaggedLen+len(data) <= int(t.maxULPDU):
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
	s := shorts.Get().(*short)
	body := q.putShort(s, stag, offset, data)
	sum := uint32(0)
	if q.tx.crc {
		sum = mpa.CRC(body) // with a frame less than in Seal
	}
	mpa.PutCRC(s.all[len(s.all)-mpa.CRCLen:], sum)
	if q.trace.Load() != nil {
		q.traceShort(s.all)
	}
	q.writeNow(s)
	q.tx.taken += uint32(s.n)
	if s.err != nil || s.n < len(s.all) {
		q.notTaken(s)
	}
	s.all, s.n, s.err = nil, 0, nil
	shorts.Put(s)
}

// A short is what it takes to write a short FPDU.
type short struct {
	mem [pool.Small]byte
	all []byte // of mem, what is to be written

	// What the system call says, which is made by the callback for the runtime's poller.
	n    int
	err  error
	call func(fd uintptr)
}

// shorts spare a connection what it needs only during a call.
var shorts = sync.Pool{New: func() any {
	s := new(short)
	s.init()
	return s
}}

// putShort puts what precedes all others, and an FPDU with data, into s. It returns what the CRC
// covers, which is still to be put at the end.
func (q *queuePair) putShort(s *short, stag transport.STag, offset uint64, data []byte) (body []byte) {
	before := 0
	if q.tx.control != nil {
		before = q.takeControl(s.mem[:])
	}
	b := s.mem[before:]
	h := ddp.Tagged{Last: true, ULP: rdmap.Control(rdmap.OpWrite), STag: uint32(stag), TO: offset}
	h.Put(b[mpa.LengthLen:])
	copy(b[mpa.LengthLen+ddp.TaggedLen:], data)
	body = mpa.Close(b, ddp.TaggedLen+len(data))
	s.all = s.mem[:before+len(body)+mpa.CRCLen]
	return body
}

// traceShort has the trace, if there is one, record what is sent.
func (q *queuePair) traceShort(b []byte) {
	if to := q.trace.Load(); to != nil {
		traceSent(to, b)
	}
}

// notTaken acts on a write that has left a rest, or has failed.
func (q *queuePair) notTaken(s *short) {
	if s.err != nil {
		q.sendFailed(s.err)
		return
	}
	rest := s.all[s.n:]
	buf := pool.Get(len(rest))
	q.tx.out.hold(buf, (*buf)[:copy(*buf, rest)], 0)
	q.tx.blocked = true
}

// writeRefs writes data in FPDUs whose payloads stay where they lie. The caller holds tx.mu.
func (q *queuePair) writeRefs(stag transport.STag, offset uint64, data []byte) {
	q.composeRefs(&ddp.Tagged{ULP: rdmap.Control(rdmap.OpWrite), STag: uint32(stag), TO: offset}, data)
	q.sealed()
	q.tryWrite()
}

// refers reports whether one batch takes n bytes in FPDUs whose payloads stay where they lie.
func (t *transmitter) refers(n int) bool {
	payload := int(t.maxULPDU) - ddp.TaggedLen
	return payload > refThreshold && 2*(n/payload+2)+1 <= maxPieces
}

// composeRefs fills the empty batch with what precedes all others, and with data. It is still to
// be sealed.
func (q *queuePair) composeRefs(h *ddp.Tagged, data []byte) {
	t := &q.tx
	b := &t.out
	b.begin(pool.Small)
	if c := t.control; c != nil {
		q.takeControl(b.header(c.n))
	}
	n := min(len(data), int(t.maxULPDU)-ddp.TaggedLen)
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
		n = min(len(data), int(t.maxULPDU)-ddp.TaggedLen)
	}
}

// idle reports whether what is posted next could be sent at once.
func (t *transmitter) idle() bool {
	return t.large && t.gateOpen && t.err == nil && t.phase.composes() && t.out.empty() &&
		t.sq.Len() == 0 && t.responses.Len() == 0
}
