package soft

import (
	"sync"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/internal/pool"
	"github.com/rdmanet/iwarp/transport/internal/wait"
	"github.com/rdmanet/iwarp/transport/soft/internal/ddp"
	"github.com/rdmanet/iwarp/transport/soft/internal/mpa"
	"github.com/rdmanet/iwarp/transport/soft/internal/rdmap"
)

const (
	writeHeader = mpa.LengthLen + ddp.TaggedLen // bytes before the payload of an RDMA Write

	// aimLeast is the payload from which it is worth a read of its own to have it where it belongs.
	aimLeast = 12 << 10
	// ahead is how much is read to staging after such a payload: the rest of the FPDU and, mostly, the
	// header of the next one, also after short ones such as that of trapLead bytes, and what tells of
	// space.
	ahead = 192
	// aimFew is how much of what came before is so little that a call that has got it goes on to look
	// for the large FPDU after it.
	aimFew = 4 << 10
	// aimPatience is how many FPDUs with little payload may come between two with much.
	aimPatience = 4
	// guessAfter is how many large FPDUs must have been alike before the next is taken to be.
	guessAfter = 2
	guessNone  = 255
)

// An aim is an FPDU of an RDMA Write whose payload is read from the socket straight to where it is
// placed. What surrounds the payload is checked as ever, and nothing is placed before that: until
// then the memory is only a place to put bytes. Staging holds what comes after the payload.
type aim struct {
	head  [writeHeader]byte
	mem   []byte // where the payload belongs
	got   int    // bytes of it that are there
	guess guess
	vec   [3][]byte
}

// A guess is what an aim has before its header is there, where the last large FPDUs were all alike.
type guess struct {
	before int // bytes that come before the payload; 0 once the header is there
	lead   int // of them payload of another FPDU
}

var aims = sync.Pool{New: func() any { return new(aim) }}

// A trend says what kind of FPDU is likely to come next.
type trend struct {
	to     uint64 // where the last payload ended
	stag   uint32 // of the last large one
	size   uint16 // of that
	left   uint8  // FPDUs with little payload before that is no longer so
	since  uint8  // payload of the one since the last large one; guessNone if that is no use
	lead   uint8  // the same before that one
	steady uint8  // large ones in a row that were like the one before
}

// note records an RDMA Write.
func (t *trend) note(stag uint32, to uint64, payload int) {
	switch {
	case payload >= aimLeast:
		steady := uint8(0)
		if payload == int(t.size) && t.since == t.lead && t.since != guessNone {
			steady = min(t.steady+1, guessAfter)
		}
		*t = trend{left: aimPatience, lead: t.since, steady: steady, size: uint16(payload), stag: stag, to: to + uint64(payload)}
	case t.left > 0:
		t.left--
		if stag != t.stag || to != t.to && to != 0 {
			return // it is written elsewhere, as what tells of space is
		}
		t.to = to + uint64(payload)
		if t.since == 0 && payload < guessNone {
			t.since = uint8(payload)
		} else {
			t.since = guessNone
		}
	}
}

// takeAim prepares the next read of the socket for a large payload. It reports whether its header
// is there, so that the read goes to where the payload belongs; if it is only likely to come, that
// read is short. Only the call of Wait may have a place for it, and only while it is the one that
// reads. The caller holds the receive token.
func (q *queuePair) takeAim(c *wait.Condition) bool {
	rx := &q.rx
	rx.short = 0
	if rx.trend.left == 0 || c != &q.Waiting || q.cfg.StallTimeout > 0 || !canAim {
		return false
	}
	b := rx.bytes()
	rest := 0 // of the FPDU that has begun
	if len(b) >= writeHeader {
		rest = payloadLen(b) - (len(b) - writeHeader)
		if rest >= aimLeast {
			return q.aimAt(b)
		}
	}
	if len(b) == 0 && q.guessAim() {
		return false
	}
	if t := &rx.trend; q.target(t.stag, t.to, int(t.size)) != nil {
		rx.short = int32(max(rest, 0) + ahead)
	}
	return false
}

// aimAt aims at the payload of the FPDU that begins with b, if that has a place.
func (q *queuePair) aimAt(b []byte) bool {
	mem := q.place(b)
	if mem == nil {
		return false
	}
	a := aims.Get().(*aim)
	copy(a.head[:], b)
	a.mem, a.got = mem, copy(mem, b[writeHeader:])
	q.rx.aim, q.rx.r = a, q.rx.w
	return true
}

// place returns where the payload of the FPDU that begins with b belongs, if it has a place.
func (q *queuePair) place(b []byte) []byte {
	h, _, err := ddp.ParseTagged(b[mpa.LengthLen:writeHeader])
	if err != nil || h.ULP != rdmap.Control(rdmap.OpWrite) {
		return nil
	}
	return q.target(h.STag, h.TO, payloadLen(b))
}

// payloadLen returns how many bytes of payload the FPDU that begins with b has, if it is an RDMA
// Write.
func payloadLen(b []byte) int { return int(b[0])<<8 + int(b[1]) - ddp.TaggedLen }

// guessAim aims at a payload whose header is not there yet.
func (q *queuePair) guessAim() bool {
	t := &q.rx.trend
	if t.steady < guessAfter || t.since != 0 {
		return false
	}
	all := q.target(t.stag, t.to, int(t.lead)+int(t.size))
	if all == nil {
		return false
	}
	a := aims.Get().(*aim)
	a.mem, a.got = all[t.lead:], 0
	a.guess = guess{before: writeHeader, lead: int(t.lead)}
	if t.lead > 0 {
		a.guess.before += mpa.FPDULen(ddp.TaggedLen + int(t.lead))
	}
	q.rx.aim = a
	return true
}

// settleGuess makes of a read of n bytes what it is with an aim. It returns false if there is none,
// as the guess was wrong, and all is in staging.
func (q *queuePair) settleGuess(n int) bool {
	rx, a := &q.rx, q.rx.aim
	g := a.guess
	a.guess = guess{}
	if n <= g.before {
		rx.w += n
		rx.putAim()
		return false
	}
	rx.w += g.before
	n -= g.before
	a.got = min(n, len(a.mem))
	n -= a.got
	ok, over := q.placeLead(g)
	if over {
		rx.r = rx.w
		rx.putAim()
		return false
	}
	if ok {
		if mem := q.place(rx.bytes()); len(mem) == len(a.mem) && &mem[0] == &a.mem[0] {
			copy(a.head[:], rx.bytes())
			rx.r = rx.w
			rx.w += n
			return true
		}
	}
	rx.trend.steady = 0
	b := pool.Get(rx.w - rx.r + a.got + n)
	w := copy(*b, rx.bytes())
	w += copy((*b)[w:], a.mem[:a.got])
	w += copy((*b)[w:], (*rx.buf)[rx.w:][:n])
	pool.Put(rx.buf)
	rx.buf, rx.r, rx.w = b, 0, w
	rx.putAim()
	return false
}

// placeLead takes the FPDU in staging that comes before the header, if it is the one that was
// expected: what it places lies before the memory of the aim. over is true if that was the peer's
// fault.
func (q *queuePair) placeLead(g guess) (ok, over bool) {
	if g.lead == 0 {
		return true, false
	}
	fpdu := q.rx.next()
	if len(fpdu) != g.before-writeHeader || payloadLen(fpdu) != g.lead {
		return false, false
	}
	h, payload, ok := q.plainWrite(fpdu)
	if !ok {
		return false, false
	}
	q.rx.r += len(fpdu)
	if e := q.handleWrite(h.STag, h.TO, payload); e != nil {
		q.terminateFor(e, fpdu)
		return false, true
	}
	return true, false
}

// target returns the memory where the n bytes of an RDMA Write belong, if it is that of the calling
// Wait, and they may go there.
func (q *queuePair) target(stag uint32, to uint64, n int) []byte {
	q.Regions.RLock()
	defer q.Regions.RUnlock()
	r := q.Regions.Lookup(transport.STag(stag))
	if r == nil || r.Access&transport.RemoteWrite == 0 || !r.Inside(to, uint64(n)) {
		return nil
	}
	t, ok := r.Placer.(transport.Targeter)
	if !ok {
		return nil
	}
	mem := t.Target(to, n)
	if len(mem) != n {
		return nil
	}
	return mem
}

// tail returns how many bytes follow the payload in its FPDU.
func (a *aim) tail() int { return mpa.Pad(ddp.TaggedLen+len(a.mem)) + mpa.CRCLen }

// rest returns where the next bytes of the payload go.
func (a *aim) rest() []byte { return a.mem[a.got:] }

// hit records a read of n bytes, and reports whether the FPDU is complete.
func (rx *receiver) hit(n int) bool {
	a := rx.aim
	k := min(n, len(a.mem)-a.got)
	a.got += k
	rx.w += n - k
	return a.got == len(a.mem) && rx.w-rx.r >= a.tail()
}

// placeAimed checks the complete FPDU of the aim, and passes it on. What is wrong with it is left
// to be found where it is found in every other one.
func (q *queuePair) placeAimed() (*rdmap.Error, []byte) {
	rx := &q.rx
	a, n := rx.aim, rx.aim.tail()
	tail := rx.bytes()[:n]
	sum := tail[n-mpa.CRCLen:]
	if rx.crc && mpa.UpdateCRC(mpa.UpdateCRC(mpa.CRC(a.head[:]), a.mem), tail[:n-mpa.CRCLen]) != mpa.GetCRC(sum) {
		rx.dropAim()
		return nil, nil
	}
	if t := q.trace.Load(); t != nil {
		q.traceReceived(t, a.head[:], a.mem, tail)
	}
	h, _, _ := ddp.ParseTagged(a.head[mpa.LengthLen:])
	q.arrived.Add(1)
	rx.turn.fpdus++
	rx.tagged = !h.Last
	if e := q.handleWrite(h.STag, h.TO, a.mem); e != nil {
		end := writeHeader + len(a.mem)
		rx.dropAim() // which leaves a to others
		ulpdu := rx.bytes()[mpa.LengthLen:end]
		rx.r = rx.w
		return e, ulpdu
	}
	rx.r += n
	rx.putAim()
	return nil, nil
}

// dropAim moves what has come to staging, as if it had been read there, and leaves the memory.
func (rx *receiver) dropAim() {
	a := rx.aim
	if a.guess.before > 0 { // nothing has come
		rx.putAim()
		return
	}
	rest := rx.bytes()
	b := pool.Get(len(a.head) + a.got + len(rest))
	n := copy(*b, a.head[:])
	n += copy((*b)[n:], a.mem[:a.got])
	n += copy((*b)[n:], rest)
	if rx.buf != nil {
		pool.Put(rx.buf)
	}
	rx.buf, rx.r, rx.w = b, 0, n
	rx.putAim()
}

func (rx *receiver) putAim() {
	rx.aim.mem, rx.aim.guess = nil, guess{}
	aims.Put(rx.aim)
	rx.aim = nil
}
