package queue_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/internal/queue"
)

// TestFIFO keeps the order while the list fills and drains by different steps.
func TestFIFO(t *testing.T) {
	var q queue.FIFO[int]
	in, out := 0, 0
	for step := range 7 {
		for range 2 * step {
			q.Push(in)
			in++
		}
		require.Equal(t, in-out, q.Len())
		for range step {
			require.Equal(t, out, *q.Front())
			q.Pop()
			out++
		}
	}
	for q.Len() > 0 {
		require.Equal(t, out, *q.Front())
		q.Pop()
		out++
	}
	require.Equal(t, in, out)

	q.Push(1)
	q.Clear()
	require.Zero(t, q.Len())
}

// TestFIFOMemory shows that a list that never drains reuses its memory.
func TestFIFOMemory(t *testing.T) {
	var q queue.FIFO[*int]
	for range 3 {
		q.Push(new(int))
	}
	v := new(int)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		q.Pop()
		q.Push(v)
	}))
	require.Equal(t, 3, q.Len())
}

// TestCompletions keeps the order while the ring wraps and grows.
func TestCompletions(t *testing.T) {
	var q queue.Completions
	in, out := uint64(0), uint64(0)
	for _, step := range []struct{ push, pop int }{{0, 1}, {6, 5}, {6, 3}, {9, 4}, {30, 50}} {
		for range step.push {
			q.Push(transport.Completion{ID: in})
			in++
		}
		require.Equal(t, int(in-out), q.Len())
		got := make([]transport.Completion, step.pop)
		n := q.Pop(got)
		require.Equal(t, min(step.pop, int(in-out)), n)
		for _, c := range got[:n] {
			require.Equal(t, out, c.ID)
			out++
		}
	}
	require.Zero(t, q.Len())
	require.Equal(t, in, out)
}
