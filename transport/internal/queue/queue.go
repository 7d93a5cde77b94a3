// Package queue has the queues of a queue pair that are the same for every software transport. They
// have no locks: whoever has a queue guards it.
package queue

// A FIFO is a short first-in-first-out list whose memory is reused. One that was never used has
// none.
type FIFO[T any] struct{ list *list[T] }

type list[T any] struct {
	items []T
	head  int
}

// Len returns how many there are.
func (q *FIFO[T]) Len() int {
	if q.list == nil {
		return 0
	}
	return len(q.list.items) - q.list.head
}

// Front returns the oldest, which must exist. It is valid until the next Push or Pop.
func (q *FIFO[T]) Front() *T { return &q.list.items[q.list.head] }

// Push appends v.
func (q *FIFO[T]) Push(v T) {
	if q.list == nil {
		q.list = new(list[T])
	}
	l := q.list
	if l.head > 0 && len(l.items) == cap(l.items) {
		n := copy(l.items, l.items[l.head:])
		clear(l.items[n:])
		l.items, l.head = l.items[:n], 0
	}
	l.items = append(l.items, v)
}

// Pop removes the oldest, which must exist.
func (q *FIFO[T]) Pop() {
	l := q.list
	var zero T
	l.items[l.head] = zero
	l.head++
	if l.head == len(l.items) {
		l.items, l.head = l.items[:0], 0
	}
}

// Clear removes all, and lets go of the memory.
func (q *FIFO[T]) Clear() { *q = FIFO[T]{} }
