package queue

import (
	"sync"

	"github.com/rdmanet/iwarp/transport"
)

// Completions is a ring that grows on demand. Work requests that are accounted for elsewhere bound
// it.
type Completions struct{ *completions } // nil while there are none

type completions struct {
	ring []transport.Completion // its length is a power of two
	head int
	len  int
}

// results are lent, so that an empty ring holds none.
var results = sync.Pool{New: func() any { return &completions{ring: make([]transport.Completion, 8)} }}

// Len returns how many there are.
func (q *Completions) Len() int {
	if q.completions == nil {
		return 0
	}
	return q.len
}

// Push appends c.
func (q *Completions) Push(c transport.Completion) {
	if q.completions == nil {
		q.completions = results.Get().(*completions)
	}
	if q.len == len(q.ring) {
		bigger := make([]transport.Completion, 2*len(q.ring))
		n := copy(bigger, q.ring[q.head:])
		copy(bigger[n:], q.ring[:q.head])
		q.ring, q.head = bigger, 0
	}
	q.ring[(q.head+q.len)&(len(q.ring)-1)] = c
	q.len++
}

// Pop moves the oldest to the slice, and returns how many it moved.
func (q *Completions) Pop(to []transport.Completion) int {
	n := min(q.Len(), len(to))
	if n == 0 {
		return 0
	}
	for i := range n {
		to[i] = q.ring[q.head]
		q.head = (q.head + 1) & (len(q.ring) - 1)
	}
	if q.len -= n; q.len == 0 && len(q.ring) <= mostLent {
		results.Put(q.completions)
		q.completions = nil
	}
	return n
}
