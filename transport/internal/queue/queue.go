// Package queue has the queues of a queue pair that are the same for every software transport. They
// have no locks: whoever has a queue guards it.
package queue

// A FIFO is a short first-in-first-out list whose memory is reused.
type FIFO[T any] struct {
	items []T
	head  int
}

// Len returns how many there are.
func (q *FIFO[T]) Len() int { return len(q.items) - q.head }

// Front returns the oldest, which must exist. It is valid until the next Push or Pop.
func (q *FIFO[T]) Front() *T { return &q.items[q.head] }

// Push appends v.
func (q *FIFO[T]) Push(v T) {
	if q.head > 0 && len(q.items) == cap(q.items) {
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	q.items = append(q.items, v)
}

// Pop removes the oldest, which must exist.
func (q *FIFO[T]) Pop() {
	var zero T
	q.items[q.head] = zero
	q.head++
	if q.head == len(q.items) {
		q.items, q.head = q.items[:0], 0
	}
}

// Clear removes all, and lets go of the memory.
func (q *FIFO[T]) Clear() { *q = FIFO[T]{} }
