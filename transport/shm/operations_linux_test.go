package shm_test

import (
	"bytes"
	"io"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/internal/transporttest"
	"github.com/rdmanet/iwarp/transport/shm"
)

// TestFence holds a Write back until the Read before it has its data.
func TestFence(t *testing.T) {
	mem := []byte("before")
	var exposed, local transport.MemoryRegion
	sink := make([]byte, len(mem))
	p := connect(t, nil, nil, func(a, b transport.QueuePair) {
		if b != nil {
			exposed = register(t, b, mem, transport.RemoteRead|transport.RemoteWrite)
		} else {
			local = register(t, a, sink, transport.LocalWrite)
		}
	})
	post(t, p.a,
		transport.SendWR{ID: 1, Opcode: transport.OpRead, Data: sink, Region: local, RemoteSTag: exposed.STag()},
		transport.SendWR{ID: 2, Opcode: transport.OpWrite, Flags: transport.Fence | transport.Inline | transport.Signaled, Data: []byte("behind"), RemoteSTag: exposed.STag()})
	require.Equal(t, transport.Completion{ID: 2, Opcode: transport.OpWrite}, next(t, p.a))
	require.Equal(t, "before", string(sink))
}

func TestSendWithInvalidate(t *testing.T) {
	var exposed transport.MemoryRegion
	p := connect(t, nil, nil, func(a, b transport.QueuePair) {
		if b != nil {
			receives(t, b, 2, 4)
			exposed = register(t, b, make([]byte, 8), transport.RemoteWrite|transport.CallerDriven)
		}
	})
	post(t, p.a, transport.SendWR{Opcode: transport.OpSendInvalidate, Flags: transport.Inline, Data: []byte("x"), Invalidate: exposed.STag()})
	require.Equal(t, transport.Completion{Opcode: transport.OpRecv, Bytes: 1, Invalidated: exposed.STag()}, next(t, p.b))
	require.Error(t, exposed.Deregister())
	post(t, p.a, transport.SendWR{Opcode: transport.OpWrite, Flags: transport.Inline, Data: []byte("x"), RemoteSTag: exposed.STag()})
	var local, remote *transport.TerminateError
	_, err := finish(t, p.b)
	require.ErrorAs(t, err, &local)
	require.True(t, local.Local)
	_, err = finish(t, p.a)
	require.ErrorAs(t, err, &remote)
	require.False(t, remote.Local)
	require.Equal(t, local.Text, remote.Text)
	require.ErrorIs(t, err, syscall.ECONNRESET)
}

// TestFaults has the peer's faults end the connection, with what they are in words at both ends.
func TestFaults(t *testing.T) {
	type memory struct{ write, read, own transport.MemoryRegion }
	for _, tt := range []struct {
		name   string
		wr     func(m memory) transport.SendWR
		text   string
		status transport.Status // of the request, at the end that asks
	}{
		{name: "unknown stag", text: "invalid STag", wr: func(m memory) transport.SendWR {
			return transport.SendWR{Opcode: transport.OpWrite, RemoteSTag: m.write.STag() + 1, Data: []byte("x"), Flags: transport.Inline}
		}},
		{name: "no right to write", text: "invalid STag", wr: func(m memory) transport.SendWR {
			return transport.SendWR{Opcode: transport.OpWrite, RemoteSTag: m.read.STag(), Data: []byte("x"), Flags: transport.Inline}
		}},
		{name: "beyond the end", text: "base or bounds violation", wr: func(m memory) transport.SendWR {
			return transport.SendWR{Opcode: transport.OpWrite, RemoteSTag: m.write.STag(), RemoteOffset: 8, Data: []byte("x"), Flags: transport.Inline}
		}},
		{name: "around the end", text: "base or bounds violation", wr: func(m memory) transport.SendWR {
			return transport.SendWR{Opcode: transport.OpWrite, RemoteSTag: m.write.STag(), RemoteOffset: 1<<64 - 1, Data: []byte("xy"), Flags: transport.Inline}
		}},
		{name: "no right to read", text: "access rights violation", status: transport.StatusRemoteAccess, wr: func(m memory) transport.SendWR {
			return transport.SendWR{Opcode: transport.OpRead, RemoteSTag: m.write.STag(), Data: make([]byte, 0), Region: m.own}
		}},
		{name: "read beyond the end", text: "base or bounds violation", status: transport.StatusRemoteAccess, wr: func(m memory) transport.SendWR {
			return transport.SendWR{Opcode: transport.OpRead, RemoteSTag: m.read.STag(), RemoteOffset: 7, Region: m.own}
		}},
		{name: "send too long", text: "message too long for the buffer", wr: func(m memory) transport.SendWR {
			return transport.SendWR{Opcode: transport.OpSend, Data: make([]byte, 9), Flags: transport.Inline}
		}},
		{name: "invalidate what is not there", text: "unknown STag cannot be invalidated", wr: func(m memory) transport.SendWR {
			return transport.SendWR{Opcode: transport.OpSendInvalidate, Flags: transport.Inline, Invalidate: m.write.STag() + 1}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var m memory
			sink := make([]byte, 8)
			p := connect(t, nil, nil, func(a, b transport.QueuePair) {
				if b != nil {
					receives(t, b, 1, 8)
					m.write = register(t, b, make([]byte, 8), transport.RemoteWrite|transport.CallerDriven)
					m.read = register(t, b, make([]byte, 8), transport.RemoteRead|transport.CallerDriven)
				} else {
					m.own = register(t, a, sink, transport.LocalWrite)
				}
			})
			wr := tt.wr(m)
			wr.ID = 9
			if wr.Opcode == transport.OpRead {
				wr.Data = sink
			}
			post(t, p.a, wr)
			var local, remote *transport.TerminateError
			_, err := finish(t, p.b)
			require.ErrorAs(t, err, &local)
			require.Equal(t, tt.text, local.Text)
			require.Equal(t, transport.StateTerminate, p.b.State())
			all, err := finish(t, p.a)
			require.ErrorAs(t, err, &remote)
			require.Equal(t, tt.text, remote.Text)
			if tt.status != 0 {
				require.Equal(t, []transport.Completion{{ID: 9, Opcode: transport.OpRead, Status: tt.status, Bytes: 8}}, all)
			}
		})
	}
}

func TestRequestsThatAreWrong(t *testing.T) {
	p := connect(t, nil, &transport.Options{IRD: -1}, nil)
	mem := make([]byte, 8)
	other := register(t, p.b, mem, transport.LocalWrite)
	own := register(t, p.a, mem, transport.LocalWrite)
	for _, wr := range []transport.SendWR{
		{Opcode: transport.OpRecv, Flags: transport.Inline},
		{Opcode: transport.OpWriteImmediate, Flags: transport.Inline},
		{Opcode: transport.OpWrite, Data: mem},
		{Opcode: transport.OpWrite, Data: mem, Region: other},
		{Opcode: transport.OpWrite, Data: make([]byte, 1), Region: own},
		{Opcode: transport.OpRead, Data: mem, Region: own},
	} {
		n, err := p.a.PostSend([]transport.SendWR{wr})
		require.Zero(t, n)
		require.Error(t, err)
	}
	require.Zero(t, p.a.Attributes().ORD)
	_, err := p.a.PostRecv([]transport.RecvWR{{Data: mem, Region: other}})
	require.Error(t, err)
	post(t, p.a)
}

// TestDrainWhileThePeerDoesNotRead obeys deadlines and interrupts, and sends the rest nevertheless.
func TestDrainWhileThePeerDoesNotRead(t *testing.T) {
	const size = 1 << 20
	var mem []byte
	p := connect(t, nil, nil, func(a, b transport.QueuePair) {
		if b != nil {
			mem = receives(t, b, 1, size)
		}
	})
	want := random(size)
	data := bytes.Clone(want)
	post(t, p.a, transport.SendWR{Opcode: transport.OpSend, Flags: transport.Inline | transport.WillDrain, Data: data})
	clear(data) // inline data is the caller's again
	begin := time.Now()
	require.Equal(t, os.ErrDeadlineExceeded, p.a.Drain(begin.Add(30*time.Millisecond)))
	require.GreaterOrEqual(t, time.Since(begin), 30*time.Millisecond)
	require.Equal(t, os.ErrDeadlineExceeded, p.a.Drain(begin), "a deadline that has passed")
	ended := make(chan error, 2)
	for range 2 {
		go func() { ended <- p.a.Drain(soon()) }()
	}
	transporttest.Interrupted(t, p.a, 2, ended)
	// Nobody drains any more. The rest goes out nevertheless.
	require.Equal(t, transport.Completion{Opcode: transport.OpRecv, Bytes: size}, next(t, p.b))
	require.True(t, bytes.Equal(want, mem))
	require.NoError(t, p.a.Drain(soon()))
}

func TestQueueDepths(t *testing.T) {
	p := connect(t, &transport.Options{SendDepth: 4, RecvDepth: 1}, nil, func(a, b transport.QueuePair) {
		if b != nil {
			receives(t, b, 4, 1<<20)
		}
	})
	a := p.a.Attributes()
	require.Equal(t, [2]int{4, 1}, [2]int{a.SendDepth, a.RecvDepth})
	big := transport.SendWR{ID: 1, Opcode: transport.OpSend, Flags: transport.Inline | transport.WillDrain, Data: make([]byte, 1<<20)}
	small := transport.SendWR{ID: 2, Opcode: transport.OpSend, Flags: transport.Inline | transport.Signaled | transport.WillDrain}
	n, err := p.a.PostSend([]transport.SendWR{big, small, small, small, small, small})
	require.Equal(t, 4, n)
	require.Equal(t, transport.ErrQueueFull, err)
	n, err = p.a.PostSend([]transport.SendWR{small})
	require.Zero(t, n)
	require.Equal(t, transport.ErrQueueFull, err)
	for range 4 {
		require.Equal(t, transport.OpRecv, next(t, p.b).Opcode)
	}
	for range 3 {
		require.Equal(t, transport.Completion{ID: 2, Opcode: transport.OpSend}, next(t, p.a))
	}
}

// TestClose has everything arrive that was posted, and then the end.
func TestClose(t *testing.T) {
	for _, size := range []int{10, 3 << 20} {
		var mem []byte
		p := connect(t, nil, nil, func(a, b transport.QueuePair) {
			if b != nil {
				mem = receives(t, b, 1, size)
			} else {
				receives(t, a, 3, 4)
			}
		})
		gone := make(chan struct{})
		p.a.(transport.Leaver).OnGone(func(bool) { close(gone) })
		data := random(size)
		post(t, p.a, transport.SendWR{Opcode: transport.OpSend, Flags: transport.Inline, Data: data})
		require.NoError(t, p.a.Close())
		require.ErrorIs(t, p.a.Close(), transport.ErrClosed)
		require.Equal(t, transport.Completion{Opcode: transport.OpRecv, Bytes: size}, next(t, p.b))
		require.True(t, bytes.Equal(data, mem))
		all, err := finish(t, p.b)
		require.Empty(t, all)
		require.Equal(t, io.EOF, err)
		require.Equal(t, io.EOF, p.b.Err())
		<-gone
		all, err = finish(t, p.a)
		require.ErrorIs(t, err, transport.ErrClosed)
		require.Len(t, all, 3)
		require.Equal(t, transport.StatusFlushed, all[0].Status)
		_, err = p.a.PostSend([]transport.SendWR{{Opcode: transport.OpSend, Flags: transport.Inline}})
		require.ErrorIs(t, err, transport.ErrClosed)
		require.Equal(t, transport.StateError, p.a.State())
	}
}

func TestAbort(t *testing.T) {
	p := connect(t, nil, nil, nil)
	waits := make(chan error, 1)
	go func() { waits <- p.b.Wait(noDeadline) }()
	require.NoError(t, p.a.Abort())
	require.ErrorIs(t, <-waits, syscall.ECONNRESET)
	require.ErrorIs(t, p.a.Wait(noDeadline), transport.ErrClosed)
}

// TestCloseWhileOthersWait ends the calls of the own end.
func TestCloseWhileOthersWait(t *testing.T) {
	p := connect(t, nil, nil, nil)
	ended := make(chan error, 3)
	for range 3 {
		go func() { ended <- p.a.Wait(noDeadline) }()
	}
	time.Sleep(time.Millisecond) // not needed for the result
	require.NoError(t, p.a.Close())
	for range 3 {
		require.ErrorIs(t, <-ended, transport.ErrClosed)
	}
}

// news is a Placer that has some each time.
type news struct{}

func (news) Place(uint64, []byte) (bool, error) { return true, nil }

// TestNoAllocations holds for a message in each direction, also between ends that sleep.
func TestNoAllocations(t *testing.T) {
	var rings [2]transport.MemoryRegion
	p := connect(t, nil, nil, func(a, b transport.QueuePair) {
		i, q := 0, a
		if b != nil {
			i, q = 1, b
		}
		var err error
		rings[i], err = q.(transport.PlacerRegistrar).RegisterPlacer(64, news{})
		require.NoError(t, err)
	})
	data := make([]byte, 64)
	send := func(q transport.QueuePair, r transport.MemoryRegion, wrs []transport.SendWR) {
		wrs[0] = transport.SendWR{Opcode: transport.OpWrite, Flags: transport.Inline, Data: data, RemoteSTag: r.STag()}
		if _, err := q.PostSend(wrs); err != nil {
			t.Error(err)
		}
	}
	echoed := make(chan struct{})
	go func() {
		defer close(echoed)
		wrs := make([]transport.SendWR, 1)
		for p.b.Wait(noDeadline) == nil {
			send(p.b, rings[0], wrs)
		}
	}()
	wrs := make([]transport.SendWR, 1)
	allocs := testing.AllocsPerRun(10, func() {
		for range 100 {
			send(p.a, rings[1], wrs)
			if err := p.a.Wait(noDeadline); err != nil {
				t.Error(err)
			}
		}
	})
	if !raceEnabled { // the race detector makes pools forget
		// On a slow machine the watcher may have something to do meanwhile.
		require.Less(t, allocs, 4.0)
	}
	require.NoError(t, p.a.Close())
	<-echoed
}

// TestPoll has calls find what comes while they look for it, and sleep after that.
func TestPoll(t *testing.T) {
	tr := shm.New(&shm.Config{Poll: time.Millisecond})
	p := connectWith(t, tr, tr, nil, nil, func(a, b transport.QueuePair) {
		if a != nil {
			receives(t, a, 20, 4)
		} else {
			receives(t, b, 20, 4)
		}
	})
	require.Equal(t, os.ErrDeadlineExceeded, p.a.Wait(time.Now().Add(100*time.Microsecond)))
	require.Equal(t, os.ErrDeadlineExceeded, p.a.Wait(time.Now().Add(5*time.Millisecond)))
	go func() {
		for range 20 {
			time.Sleep(200 * time.Microsecond) // not needed for the result
			_, _ = p.a.PostSend([]transport.SendWR{{Opcode: transport.OpSend, Flags: transport.Inline}})
		}
	}()
	for range 20 {
		require.Equal(t, transport.OpRecv, next(t, p.b).Opcode)
	}
}
