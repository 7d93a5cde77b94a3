package queue_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/internal/queue"
)

func push(q *queue.Sends, wrs ...transport.SendWR) {
	for i := range wrs {
		q.Push(&wrs[i], 0)
	}
}

// TestSends keeps the order while the ring wraps and grows, and knows what is handed over.
func TestSends(t *testing.T) {
	var q queue.Sends
	in, out := uint64(0), uint64(0)
	for _, step := range []struct{ push, pop int }{{3, 2}, {3, 3}, {5, 2}, {30, 34}} {
		for range step.push {
			push(&q, transport.SendWR{ID: in})
			in++
		}
		require.Equal(t, int(in-out), q.Len())
		require.True(t, q.Pending())
		for range step.pop {
			require.True(t, q.Sendable(0, 0))
			require.Equal(t, out, q.Next().WR.ID)
			q.Sent()
			require.Equal(t, out, q.At(0).WR.ID)
			q.Pop()
			out++
		}
	}
	require.False(t, q.Pending())
	require.False(t, q.Sendable(0, 0))
	require.True(t, q.Drained())
}

// TestSendable holds back reads beyond the limit, and what comes after a fence.
func TestSendable(t *testing.T) {
	read := transport.SendWR{Opcode: transport.OpRead}
	fenced := transport.SendWR{Opcode: transport.OpWrite, Flags: transport.Fence}
	for name, tt := range map[string]struct {
		next        transport.SendWR
		reads, most int
		want        bool
	}{
		"read":                     {read, 1, 2, true},
		"read too many":            {read, 2, 2, false},
		"write beside reads":       {transport.SendWR{Opcode: transport.OpWrite}, 2, 2, true},
		"fenced without reads":     {fenced, 0, 2, true},
		"fenced while a read runs": {fenced, 1, 2, false},
	} {
		t.Run(name, func(t *testing.T) {
			var q queue.Sends
			push(&q, tt.next)
			require.Equal(t, tt.want, q.Sendable(tt.reads, tt.most))
		})
	}
	t.Run("reads given up", func(t *testing.T) {
		var q queue.Sends
		push(&q, read, read, transport.SendWR{ID: 7})
		q.DropReads()
		require.True(t, q.Sendable(0, 0))
		require.Equal(t, uint64(7), q.Next().WR.ID)
		require.Equal(t, transport.StatusFlushed, q.At(1).Status)
	})
}

// TestKeep copies what is left of a payload once, and goes on where it was.
func TestKeep(t *testing.T) {
	var q queue.Sends
	mine := []byte("0123456789")
	push(&q,
		transport.SendWR{Data: mine, Flags: transport.Inline},
		transport.SendWR{Data: mine, Flags: transport.Inline | transport.Lent},
		transport.SendWR{Data: mine},
		transport.SendWR{Flags: transport.Inline})
	q.Next().Off = 4
	q.KeepInline(transport.Lent)
	q.KeepInline(transport.Lent)
	for i, want := range []bool{true, false, false, false} {
		require.Equal(t, want, q.At(i).Kept(), i)
	}
	first := string(q.At(0).Rest())
	clear(mine)
	require.Equal(t, "456789", first)
	require.Equal(t, first, string(q.At(0).Rest()))
	require.Equal(t, uint64(4), q.At(0).Base)
	copy(mine, "abcdefghij")
	q.KeepAll()
	clear(mine)
	require.Equal(t, "abcdefghij", string(q.At(2).Rest()))
}

// TestReadDone ends reads in the order in which they were requested.
func TestReadDone(t *testing.T) {
	var q queue.Sends
	push(&q, transport.SendWR{Opcode: transport.OpRead}, transport.SendWR{}, transport.SendWR{Opcode: transport.OpRead}, transport.SendWR{Opcode: transport.OpRead})
	for range 3 {
		if e := q.Next(); e.WR.Opcode == transport.OpRead {
			e.State = queue.SendWaiting
		}
		q.Sent()
	}
	q.ReadDone(transport.StatusSuccess)
	q.ReadDone(transport.StatusRemoteAccess)
	q.ReadDone(transport.StatusRemoteAccess) // belongs to none
	require.Equal(t, queue.SendDone, q.At(0).State)
	require.Equal(t, queue.SendQueued, q.At(1).State)
	require.Equal(t, transport.StatusRemoteAccess, q.At(2).Status)
	require.Equal(t, queue.SendQueued, q.At(3).State)
}

// TestFlush loses what Drain is about, but not what nobody drains beside it.
func TestFlush(t *testing.T) {
	drain := transport.SendWR{Flags: transport.WillDrain}
	for name, tt := range map[string]struct {
		wrs  []transport.SendWR
		lost bool
	}{
		"drained ones":             {[]transport.SendWR{drain}, true},
		"others, if there are no":  {[]transport.SendWR{{}}, true},
		"others beside sent ones":  {[]transport.SendWR{drain, {}}, false},
		"nothing, if all are done": {[]transport.SendWR{drain}, false},
	} {
		t.Run(name, func(t *testing.T) {
			var q queue.Sends
			push(&q, tt.wrs...)
			if !tt.lost {
				q.At(0).State = queue.SendDone
			}
			q.Flush()
			require.False(t, q.Pending())
			for range tt.wrs {
				q.Pop()
			}
			require.Equal(t, !tt.lost, q.Drained())
		})
	}
}

// TestSendsMemory shows that a queue that is in use costs no memory.
func TestSendsMemory(t *testing.T) {
	var q queue.Sends
	wr := transport.SendWR{Data: make([]byte, 100), Flags: transport.Inline}
	turn := func() {
		for range 3 {
			q.Push(&wr, 0)
		}
		for range 3 {
			q.Sent()
			q.Pop()
		}
	}
	turn()
	require.Zero(t, testing.AllocsPerRun(100, turn))
}
