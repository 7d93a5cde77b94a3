package shm

import (
	"runtime/debug"

	"github.com/rdmanet/iwarp/transport"
)

// mostNow is how much data goes the short way. With more, that saves little.
const mostNow = 64 << 10

// WriteNow implements transport.NowWriter.
func (q *queuePair) WriteNow(stag transport.STag, offset uint64, data []byte) (posted, left bool) {
	if len(data) == 0 || !q.Healthy() {
		return false, false
	}
	posted, over := q.writeNow(stag, offset, data)
	if over { // or soon, once what is unread has made room
		q.lookForEnd()
	}
	return posted, false
}

// lookForEnd looks for all that the peer has said, up to its end. One that says more meanwhile does
// not hold it up.
func (q *queuePair) lookForEnd() {
	const most = ringSize/headerLen/turn + 2 // a full ring, what this end has begun with, and the end
	for left := most; left > 0 && q.Look(); left-- {
	}
}

// writeNow does the work of WriteNow, unless the connection is over, of which a program that only
// writes learns in this way.
func (q *queuePair) writeNow(stag transport.STag, offset uint64, data []byte) (posted, over bool) {
	t := &q.tx
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.out == nil || t.err != nil || t.trimming || t.sq.Len() > 0 || t.responses.Len() > 0 {
		return false, false
	}
	defer q.survive(debug.SetPanicOnFault(true))
	room, ok := q.room()
	if !ok {
		return false, false
	}
	if q.peerIsOver() {
		return false, true
	}
	if len(data) > mostNow || room < recordsLen(len(data)) {
		return false, false
	}
	q.rewind(room, len(data))
	h := header{op: opWrite, stag: uint32(stag), offset: offset}
	for h.flags == 0 {
		n := min(len(data), maxPiece)
		if h.length = uint32(n); n == len(data) {
			h.flags = flagLast
		}
		q.put(&h, data[:n])
		data = data[n:]
		h.offset += uint64(n)
	}
	q.publish()
	return true, false
}

// peerIsOver reports whether the peer has ended or is about to, or has died as far as that was
// looked into: where it leaves something unread, once between two looks of watch. The caller holds
// tx.mu, and has called room.
func (q *queuePair) peerIsOver() bool {
	t := &q.tx
	if q.in.end.Load() != endNone {
		return true
	}
	leaves := q.in.leaves.Load() != 0
	if t.head == t.pos {
		return leaves
	}
	watch.arm()
	if n := watch.looks.Load() + 1; n != t.looks {
		t.looks = n
		if dead, _ := peerHungUp(q.raw); dead {
			q.sleep.died.Store(true)
			q.kick()
		}
	}
	return leaves || q.sleep.died.Load()
}

// recordsLen is how many bytes of a ring n bytes of payload take at most, on their way.
func recordsLen(n int) uint64 {
	return uint64(n/maxPiece)*recordLen(maxPiece) + recordLen(uint64(n%maxPiece))
}
