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
	// header of the next one, also after a short one such as that of trapLead bytes.
	ahead = 128
	// aimFew is how much of what came before is so little that a call that has got it goes on to look
	// for the large FPDU after it.
	aimFew = 4 << 10
	// aimPatience is how many FPDUs with little payload may come between two with much.
	aimPatience = 4
)

// An aim is an FPDU of an RDMA Write whose payload is read from the socket straight to where it is
// placed. What surrounds the payload is checked as ever, and nothing is placed before that: until
// then the memory is only a place to put bytes. Staging holds what comes after the payload.
type aim struct {
	head [writeHeader]byte
	mem  []byte // where the payload belongs
	got  int    // bytes of it that are there
	vec  [2][]byte
}

var aims = sync.Pool{New: func() any { return new(aim) }}

// A trend says what kind of FPDU is likely to come next.
type trend struct {
	left uint8  // FPDUs with little payload before that is no longer so
	size uint32 // of the last large payload
	stag uint32
	to   uint64 // where that ended
}

// note records an RDMA Write.
func (t *trend) note(stag uint32, to uint64, payload int) {
	switch {
	case payload >= aimLeast:
		*t = trend{left: aimPatience, size: uint32(payload), stag: stag}
	case t.left > 0:
		t.left--
	}
	t.to = to + uint64(payload)
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
		n := int(b[0])<<8 + int(b[1]) - ddp.TaggedLen
		rest = n - (len(b) - writeHeader)
		if rest >= aimLeast {
			return q.aimAt(b, n)
		}
	}
	if t := &rx.trend; q.target(t.stag, t.to, int(t.size)) != nil {
		rx.short = int32(max(rest, 0) + ahead)
	}
	return false
}

// aimAt aims at the n bytes of payload of the FPDU that begins with b, if they have a place.
func (q *queuePair) aimAt(b []byte, n int) bool {
	h, _, err := ddp.ParseTagged(b[mpa.LengthLen:writeHeader])
	if err != nil || h.ULP != rdmap.Control(rdmap.OpWrite) {
		return false
	}
	mem := q.target(h.STag, h.TO, n)
	if mem == nil {
		return false
	}
	a := aims.Get().(*aim)
	copy(a.head[:], b)
	a.mem, a.got = mem, copy(mem, b[writeHeader:])
	q.rx.aim, q.rx.r = a, q.rx.w
	return true
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
	rx.aim.mem = nil
	aims.Put(rx.aim)
	rx.aim = nil
}
