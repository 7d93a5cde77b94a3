package shm

import "github.com/rdmanet/iwarp/transport"

// completionQueue is a ring that grows on demand. Work requests that are accounted for elsewhere
// bound it.
type completionQueue struct {
	ring []transport.Completion // its length is a power of two
	head int
	len  int
}

func (q *completionQueue) push(c transport.Completion) {
	if q.len == len(q.ring) {
		bigger := make([]transport.Completion, max(8, 2*len(q.ring)))
		n := copy(bigger, q.ring[q.head:])
		copy(bigger[n:], q.ring[:q.head])
		q.ring, q.head = bigger, 0
	}
	q.ring[(q.head+q.len)&(len(q.ring)-1)] = c
	q.len++
}

func (q *completionQueue) pop(to []transport.Completion) int {
	n := min(q.len, len(to))
	for i := range n {
		to[i] = q.ring[q.head]
		q.head = (q.head + 1) & (len(q.ring) - 1)
	}
	q.len -= n
	return n
}
