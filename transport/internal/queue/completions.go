package queue

import "github.com/rdmanet/iwarp/transport"

// Completions is a ring that grows on demand. Work requests that are accounted for elsewhere bound
// it.
type Completions struct {
	ring []transport.Completion // its length is a power of two
	head int32
	len  int32
}

// Len returns how many there are.
func (q *Completions) Len() int { return int(q.len) }

// Push appends c.
func (q *Completions) Push(c transport.Completion) {
	if q.Len() == len(q.ring) {
		bigger := make([]transport.Completion, max(8, 2*len(q.ring)))
		n := copy(bigger, q.ring[q.head:])
		copy(bigger[n:], q.ring[:q.head])
		q.ring, q.head = bigger, 0
	}
	q.ring[int(q.head+q.len)&(len(q.ring)-1)] = c
	q.len++
}

// Pop moves the oldest to the slice, and returns how many it moved.
func (q *Completions) Pop(to []transport.Completion) int {
	n := min(q.Len(), len(to))
	for i := range n {
		to[i] = q.ring[q.head]
		q.head = (q.head + 1) & int32(len(q.ring)-1)
	}
	q.len -= int32(n)
	return n
}
