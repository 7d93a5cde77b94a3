package queue_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/internal/queue"
)

func requireNone(t *testing.T, q *queue.Receives[*int]) {
	t.Helper()
	_, ok := q.Head()
	require.False(t, ok)
}

// TestReceives shows that every receive comes out as it went in, whether or not those beside it
// make a run with it.
func TestReceives(t *testing.T) {
	one, other := new(int), new(int)
	mem := make([]byte, 64)
	type receive struct {
		wr     transport.RecvWR
		region *int
	}
	at := func(id uint64, region *int, from, to int) receive {
		return receive{transport.RecvWR{ID: id, Data: mem[from:to]}, region}
	}
	for name, list := range map[string][]receive{
		"a row":             {at(1, one, 0, 8), at(2, one, 8, 16), at(3, one, 16, 24)},
		"up to the end":     {at(1, one, 32, 48), at(2, one, 48, 64), at(3, one, 0, 16)},
		"other IDs":         {at(1, one, 0, 8), at(3, one, 8, 16), at(3, one, 16, 24)},
		"other memory":      {at(1, one, 0, 8), at(2, one, 16, 24), at(3, one, 8, 16)},
		"other sizes":       {at(1, one, 0, 8), at(2, one, 8, 12), at(3, one, 12, 20)},
		"other regions":     {at(1, one, 0, 8), at(2, other, 8, 16), at(3, one, 16, 24)},
		"empty":             {at(1, nil, 0, 0), at(2, nil, 0, 0), at(3, one, 0, 8)},
		"rows of two sizes": {at(1, one, 0, 8), at(2, one, 8, 16), at(3, one, 16, 32), at(4, one, 32, 48)},
	} {
		t.Run(name, func(t *testing.T) {
			var q queue.Receives[*int]
			requireNone(t, &q)
			for i := range list {
				q.Push(&list[i].wr, list[i].region)
			}
			for i, want := range list {
				require.Equal(t, len(list)-i, q.Len())
				r, ok := q.Head()
				require.True(t, ok)
				require.Equal(t, want.wr.ID, r.ID)
				require.Same(t, want.region, r.Region)
				require.Len(t, r.Mem, len(want.wr.Data))
				if len(r.Mem) > 0 {
					require.Same(t, &want.wr.Data[0], &r.Mem[0])
				}
				q.Pop()
			}
			require.Zero(t, q.Len())
			requireNone(t, &q)
		})
	}
}

// TestReceivesMemory shows that a row that is posted again and again costs no memory.
func TestReceivesMemory(t *testing.T) {
	var q queue.Receives[*int]
	mem, id := make([]byte, 64), uint64(0)
	wr := transport.RecvWR{}
	require.Zero(t, testing.AllocsPerRun(100, func() {
		for from := 0; from < len(mem); from += 8 {
			wr = transport.RecvWR{ID: id, Data: mem[from : from+8]}
			q.Push(&wr, nil)
			id++
		}
		for q.Len() > 0 {
			q.Pop()
		}
	}))
}

// TestBareReceives come out beside those that have memory, as they went in.
func TestBareReceives(t *testing.T) {
	var q queue.Receives[*int]
	one := new(int)
	q.PushBare(5, 2)
	q.PushBare(70, 0) // none
	q.PushBare(7, 1)
	q.Push(&transport.RecvWR{ID: 8, Data: make([]byte, 4)}, one)
	q.PushBare(9, 1)
	q.PushBare(11, 2)
	require.Equal(t, 7, q.Len())
	for _, id := range []uint64{5, 6, 7, 8, 9, 11, 12} {
		r, ok := q.Head()
		require.True(t, ok)
		require.Equal(t, id, r.ID)
		require.Equal(t, id == 8, r.Region != nil)
		require.Equal(t, id == 8, r.Mem != nil)
		q.Pop()
	}
	requireNone(t, &q)
}
