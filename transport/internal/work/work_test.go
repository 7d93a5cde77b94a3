package work_test

import (
	"errors"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/internal/queue"
	"github.com/rdmanet/iwarp/transport/internal/wait"
	"github.com/rdmanet/iwarp/transport/internal/work"
)

// A fake is a queue pair that sends nothing.
type fake struct {
	work.Pair
	sq      queue.Sends
	flushed int
}

func newFake(t *testing.T, o transport.Options) *fake {
	f := &fake{}
	f.Init(f, &o)
	f.Crew.Give(&f.Crew.Token)
	require.NoError(t, f.EnterRTS())
	return f
}

func (f *fake) Drive(*wait.Condition, uint32, time.Time) (wait.Pause, error) {
	return wait.Yield, wait.ErrAgain
}
func (f *fake) RegionsChanged() {}
func (f *fake) RegionRevoked()  {}
func (f *fake) SendsLeft() bool { return f.sq.Len() > 0 }
func (f *fake) FlushSends() {
	f.flushed++
	f.sq.Flush()
	f.Retire(&f.sq)
}

func (f *fake) poll() []transport.Completion {
	var wc [8]transport.Completion
	return wc[:f.Poll(wc[:])]
}

// receive posts receives of 4 bytes.
func (f *fake) receive(t *testing.T, n int) []byte {
	t.Helper()
	mem := make([]byte, 4*n)
	r, err := f.RegisterMemory(mem, transport.LocalWrite)
	require.NoError(t, err)
	wrs := make([]transport.RecvWR, n)
	for i := range wrs {
		wrs[i] = transport.RecvWR{ID: uint64(i), Data: mem[4*i : 4*i+4], Region: r}
	}
	k, err := f.PostRecv(wrs)
	require.NoError(t, err)
	require.Equal(t, n, k)
	return mem
}

// TestPlaceSend places messages in parts, in receives in their order, and refuses what does not
// fit.
func TestPlaceSend(t *testing.T) {
	f := newFake(t, transport.Options{RecvDepth: 4})
	mem := f.receive(t, 3)
	require.Equal(t, work.Fine, f.PlaceSend(0, []byte("a"), []byte("b"), nil))
	require.Empty(t, f.poll())
	done := transport.Completion{Opcode: transport.OpRecv, Bytes: 3}
	require.Equal(t, work.Fine, f.PlaceSend(2, []byte("c"), nil, &done))
	require.Equal(t, []transport.Completion{done}, f.poll())
	require.Equal(t, "abc\x00", string(mem[:4]))
	require.Equal(t, work.TooLong, f.PlaceSend(1, []byte("wxy"), []byte("z"), &done))
	require.Equal(t, []transport.Completion{{ID: 1, Opcode: transport.OpRecv, Status: transport.StatusLocalLength}}, f.poll())
	require.Equal(t, work.TooLong, f.PlaceSend(5, nil, nil, &done), "after the end of the receive")
	require.Len(t, f.poll(), 1)
	require.Equal(t, work.NoBuffer, f.PlaceSend(0, nil, nil, &done))
	require.Equal(t, make([]byte, 8), mem[4:])
}

// TestPostWords hands over short messages in their completions, beside receives that have memory.
func TestPostWords(t *testing.T) {
	f := newFake(t, transport.Options{RecvDepth: 6})
	n, err := f.PostWords(10, 2)
	require.NoError(t, err)
	require.Equal(t, 2, n)
	f.receive(t, 1)
	n, err = f.PostWords(12, 4)
	require.ErrorIs(t, err, transport.ErrQueueFull)
	require.Equal(t, 3, n)
	send := func(bytes int) transport.Completion {
		done := transport.Completion{Opcode: transport.OpRecv, Bytes: bytes}
		p := []byte("abcde")[:bytes]
		if bytes > 1 {
			require.Equal(t, work.Fine, f.PlaceSend(0, p[:1], nil, nil))
			p = p[1:]
		}
		verdict := f.PlaceSend(uint64(bytes-len(p)), p, nil, &done)
		require.Equal(t, bytes > 4, verdict == work.TooLong)
		wc := f.poll()
		require.Len(t, wc, 1)
		return wc[0]
	}
	for i, want := range []transport.Completion{
		{ID: 10, Bytes: 4, Word: [4]byte{'a', 'b', 'c', 'd'}},
		{ID: 11, Bytes: 1, Word: [4]byte{'a'}},
		{ID: 0, Bytes: 4}, // has memory
		{ID: 12, Bytes: 0},
		{ID: 13, Status: transport.StatusLocalLength, Word: [4]byte{'a'}},
	} {
		want.Opcode = transport.OpRecv
		require.Equal(t, want, send([]int{4, 1, 4, 0, 5}[i]), "%d", i)
	}
	f.End(transport.StateError, errors.New("cause"))
	_, err = f.PostWords(20, 1)
	require.Error(t, err)
	require.Equal(t, []transport.Completion{{ID: 14, Opcode: transport.OpRecv, Status: transport.StatusFlushed}}, f.poll())
}

// TestEnqueue takes requests up to the first that is wrong, or that there is no room for.
func TestEnqueue(t *testing.T) {
	f := newFake(t, transport.Options{SendDepth: 2})
	will := transport.SendWR{Flags: transport.Inline | transport.WillDrain}
	n, drained, err := f.Enqueue(&f.sq, []transport.SendWR{will}, 0)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.True(t, drained)
	n, drained, err = f.Enqueue(&f.sq, []transport.SendWR{will, {Opcode: transport.OpRead}}, 0)
	require.ErrorIs(t, err, transport.ErrQueueFull)
	require.Equal(t, 1, n)
	require.False(t, drained)
	f.sq.Pop()
	n, _, err = f.Enqueue(&f.sq, []transport.SendWR{{Opcode: transport.OpRead}}, 0)
	require.ErrorContains(t, err, "accepts no rdma reads")
	require.Zero(t, n)
}

// TestEndFlushes has Poll return everything that was posted, and Wait the cause after that.
func TestEndFlushes(t *testing.T) {
	f := newFake(t, transport.Options{SendDepth: 2, RecvDepth: 2})
	f.receive(t, 1)
	_, _, err := f.Enqueue(&f.sq, []transport.SendWR{{ID: 7}}, 0)
	require.NoError(t, err)
	require.ErrorIs(t, f.Wait(time.Now()), os.ErrDeadlineExceeded)
	cause := errors.New("cause")
	f.End(transport.StateError, cause)
	require.NoError(t, f.Wait(time.Time{}))
	require.Equal(t, []transport.Completion{
		{ID: 7, Status: transport.StatusFlushed}, {Opcode: transport.OpRecv, Status: transport.StatusFlushed},
	}, f.poll())
	require.Equal(t, 1, f.flushed)
	require.Equal(t, cause, f.Wait(time.Time{}))
	require.Equal(t, cause, f.Ready())
	_, err = f.PostRecv(make([]transport.RecvWR, 1))
	require.Equal(t, cause, err)
	_, err = f.RegisterMemory(make([]byte, 1), 0)
	require.Equal(t, cause, err)
}

// TestLeavingKeepsSends leaves the send queue alone until what is left of it was sent.
func TestLeavingKeepsSends(t *testing.T) {
	f := newFake(t, transport.Options{SendDepth: 2})
	_, _, err := f.Enqueue(&f.sq, []transport.SendWR{{ID: 7}}, 0)
	require.NoError(t, err)
	was, err := f.Shut(false)
	require.NoError(t, err)
	require.Equal(t, work.Farewell{Connected: true, InOrder: true}, was)
	_, err = f.Shut(false)
	require.Equal(t, transport.ErrClosed, err)
	require.Empty(t, f.poll())
	require.Equal(t, transport.ErrClosed, f.Wait(time.Time{}))
	require.Equal(t, transport.StateClosing, f.State())
	f.Mu.Lock()
	f.Over()
	f.Mu.Unlock()
	require.Equal(t, []transport.Completion{{ID: 7, Status: transport.StatusFlushed}}, f.poll())
	require.Equal(t, transport.StateError, f.State())
}

// TestShut tells how the connection was.
func TestShut(t *testing.T) {
	for name, tt := range map[string]struct {
		before func(f *fake)
		abort  bool
		want   work.Farewell
		state  transport.State
	}{
		"up":             {func(*fake) {}, false, work.Farewell{Connected: true, InOrder: true}, transport.StateClosing},
		"up, aborted":    {func(*fake) {}, true, work.Farewell{Connected: true}, transport.StateError},
		"over":           {func(f *fake) { f.End(transport.StateError, os.ErrClosed) }, false, work.Farewell{Connected: true}, transport.StateError},
		"leaving":        {func(f *fake) { f.Leave(transport.StateTerminate, os.ErrClosed) }, false, work.Farewell{Connected: true, Leaving: true}, transport.StateTerminate},
		"leaving, reset": {func(f *fake) { f.Leave(transport.StateTerminate, os.ErrClosed) }, true, work.Farewell{Connected: true}, transport.StateError},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, transport.Options{})
			tt.before(f)
			got, err := f.Shut(tt.abort)
			require.NoError(t, err)
			require.Equal(t, tt.want, got)
			require.Equal(t, tt.state, f.State())
			require.False(t, f.Leave(transport.StateTerminate, os.ErrClosed), "too late")
		})
	}
}

// TestOptions has defaults for what is not given, and bounds.
func TestOptions(t *testing.T) {
	for name, tt := range map[string]struct {
		give transport.Options
		want work.Options
	}{
		"defaults":  {transport.Options{}, work.Options{SendDepth: 512, RecvDepth: 512, IRD: 16, ORD: 16}},
		"given":     {transport.Options{SendDepth: 3, RecvDepth: 4, IRD: 5, ORD: 6}, work.Options{SendDepth: 3, RecvDepth: 4, IRD: 5, ORD: 6}},
		"none":      {transport.Options{SendDepth: -1, RecvDepth: -1, IRD: -1, ORD: -1}, work.Options{SendDepth: 1, RecvDepth: 1}},
		"very many": {transport.Options{SendDepth: 1 << 30, RecvDepth: 1 << 30, IRD: 1 << 30, ORD: 1 << 30}, work.Options{SendDepth: 1 << 20, RecvDepth: 1 << 20, IRD: 16382, ORD: 16382}},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, tt.want, newFake(t, tt.give).Opts)
		})
	}
}
