package shm

import (
	"runtime/debug"

	"github.com/rdmanet/iwarp/transport"
)

// mostNow is how much data goes the short way. With more, that saves little.
const mostNow = 64 << 10

// WriteNow implements transport.NowWriter.
func (q *queuePair) WriteNow(stag transport.STag, offset uint64, data []byte) (posted, left bool) {
	if len(data) > mostNow || len(data) == 0 || !q.Healthy() {
		return false, false
	}
	t := &q.tx
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.out == nil || t.err != nil || t.trimming || t.sq.Len() > 0 || t.responses.Len() > 0 {
		return false, false
	}
	defer q.survive(debug.SetPanicOnFault(true))
	room, ok := q.room()
	if !ok || room < recordsLen(len(data)) {
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

// recordsLen is how many bytes of a ring n bytes of payload take at most, on their way.
func recordsLen(n int) uint64 {
	return uint64(n/maxPiece)*recordLen(maxPiece) + recordLen(uint64(n%maxPiece))
}
