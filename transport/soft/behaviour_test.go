package soft_test

import (
	"bytes"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/internal/transporttest"
	"github.com/rdmanet/iwarp/transport/soft"
	"github.com/rdmanet/iwarp/transport/soft/internal/rdmap"
)

func TestDrainWhileThePeerDoesNotRead(t *testing.T) {
	q, p, _ := role{}.initiator(t)
	narrow(t, q, p)
	want := random(300_000)
	data := bytes.Clone(want)
	post(t, q, transport.SendWR{Opcode: transport.OpSend, Flags: transport.Inline | transport.WillDrain, Data: data})
	clear(data) // inline data is the caller's again, though hardly any of it has left

	begin := time.Now()
	require.Equal(t, os.ErrDeadlineExceeded, q.Drain(begin.Add(30*time.Millisecond)))
	took := time.Since(begin)
	require.GreaterOrEqual(t, took, 30*time.Millisecond)
	require.Less(t, took, limit/2)
	require.Equal(t, os.ErrDeadlineExceeded, q.Drain(begin), "a deadline that has passed")

	ended := make(chan error, 2)
	for range 2 {
		go func() { ended <- q.Drain(soon()) }()
	}
	transporttest.Interrupted(t, q, 2, ended)
	// Nobody drains any more. The rest goes out nevertheless.
	got := p.next()
	all := bytes.Clone(got.Payload)
	for !got.U.Last {
		got = p.next()
		all = append(all, got.Payload...)
	}
	require.True(t, bytes.Equal(want, all))
	require.NoError(t, q.Drain(soon()))
}

// Answers to the peer's reads are not what Drain waits for, and are not left behind either.
func TestDrainAndAnAnswerThatThePeerDoesNotTake(t *testing.T) {
	var region transport.MemoryRegion
	const size = 4 << 20
	q, p, _ := role{prepare: func(q transport.QueuePair) {
		region = register(t, q, make([]byte, size), transport.RemoteRead|transport.CallerDriven)
		receives(t, q, 1, 4)
	}}.responder(t)
	narrow(t, q, p)
	p.write(send(1, nil)) // opens the gate
	require.Equal(t, transport.OpRecv, next(t, q).Opcode)
	p.write(readRequest(1, rdmap.ReadRequest{Size: size, SrcSTag: uint32(region.STag())}))
	post(t, q, transport.SendWR{Opcode: transport.OpSend, Flags: transport.Inline | transport.WillDrain, Data: make([]byte, 300000)})
	drained := make(chan error, 1)
	go func() { drained <- q.Drain(soon()) }()
	time.Sleep(10 * time.Millisecond) // not needed for the result: the request is usually there before the Send is out
	s := p.next()
	for s.Op != rdmap.OpSend || !s.U.Last {
		s = p.next()
	}
	require.NoError(t, <-drained)
	for got := 0; got < size; {
		s = p.next()
		require.Equal(t, rdmap.OpReadResponse, s.Op)
		got += len(s.Payload)
	}
	require.True(t, s.T.Last)
}

// Of several who drain one sends, the others follow.
func TestSeveralDrain(t *testing.T) {
	q, p, _ := role{}.initiator(t)
	narrow(t, q, p)
	data := random(300_000)
	post(t, q, transport.SendWR{Opcode: transport.OpSend, Flags: transport.Inline | transport.WillDrain, Data: data})
	ended := make(chan error, 8)
	for range 2 {
		for range 2 {
			go func() { ended <- q.Drain(soon()) }()
			go func() { ended <- q.Drain(noDeadline) }()
		}
		start := time.Now()
		require.Equal(t, os.ErrDeadlineExceeded, q.Drain(start.Add(20*time.Millisecond)))
		require.GreaterOrEqual(t, time.Since(start), 20*time.Millisecond)
		q.Interrupt()
		for range 4 {
			require.Equal(t, transport.ErrInterrupted, <-ended)
		}
	}
	for range 4 {
		go func() { ended <- q.Drain(soon()) }()
	}
	got := p.next()
	all := bytes.Clone(got.Payload)
	for !got.U.Last {
		got = p.next()
		all = append(all, got.Payload...)
	}
	require.True(t, bytes.Equal(data, all))
	for range 4 {
		require.NoError(t, <-ended)
	}
}

func TestDrainAndAPeerThatResets(t *testing.T) {
	q, p, _ := role{}.initiator(t)
	narrow(t, q, p)
	post(t, q, transport.SendWR{Opcode: transport.OpSend, Flags: transport.Inline | transport.WillDrain, Data: make([]byte, 300_000)})
	ended := make(chan error, 3)
	for range 3 {
		go func() { ended <- q.Drain(soon()) }()
	}
	require.Equal(t, os.ErrDeadlineExceeded, q.Drain(time.Now().Add(10*time.Millisecond)))
	require.NoError(t, p.c.SetLinger(0))
	require.NoError(t, p.c.Close())
	for range 3 {
		require.Error(t, <-ended)
	}
	_, err := finish(t, q)
	require.ErrorIs(t, err, syscall.ECONNRESET)
}

func TestQueueDepths(t *testing.T) {
	q, p, _ := role{opts: &transport.Options{SendDepth: 4, RecvDepth: 1}}.initiator(t)
	narrow(t, q, p)
	a := q.Attributes()
	require.Equal(t, [2]int{4, 1}, [2]int{a.SendDepth, a.RecvDepth})
	big := transport.SendWR{ID: 1, Opcode: transport.OpSend, Flags: transport.Inline | transport.WillDrain, Data: make([]byte, 1<<20)}
	small := transport.SendWR{ID: 2, Opcode: transport.OpSend, Flags: transport.Inline | transport.Signaled | transport.WillDrain}
	n, err := q.PostSend([]transport.SendWR{big, small, small, small, small, small})
	require.Equal(t, 4, n)
	require.Equal(t, transport.ErrQueueFull, err)
	n, err = q.PostSend([]transport.SendWR{small})
	require.Zero(t, n)
	require.Equal(t, transport.ErrQueueFull, err)
	// One who was refused may wait instead of draining.
	read := make(chan int)
	go func() {
		n := 0
		for n < 4 {
			s, err := p.segment()
			if err != nil {
				break
			}
			if s.Op == rdmap.OpSend && s.U.Last {
				n++
			}
		}
		read <- n
	}()
	for range 3 {
		require.Equal(t, transport.Completion{ID: 2, Opcode: transport.OpSend}, next(t, q))
	}
	require.Equal(t, 4, <-read)
	n, err = q.PostSend(nil)
	require.Zero(t, n)
	require.NoError(t, err)
}

// The kernel of an end that has closed answers late data with a reset. What it had sent before must
// arrive nevertheless.
func TestNothingIsLostToAReset(t *testing.T) {
	const size = 64 << 10
	for range 3 {
		var ring transport.MemoryRegion
		p := connect(t, nil, nil, func(a, b transport.QueuePair) {
			if b != nil {
				receives(t, b, 64, size)
			} else {
				ring = register(t, a, make([]byte, 4096), transport.RemoteWrite|transport.CallerDriven)
				receives(t, a, 1, 4)
			}
		})
		post(t, p.b, transport.SendWR{Opcode: transport.OpSend, Flags: transport.Inline | transport.WillDrain})
		for i := range 32 {
			post(t, p.a, transport.SendWR{ID: uint64(i), Opcode: transport.OpSend, Flags: transport.Inline, Data: make([]byte, size)})
		}
		require.NoError(t, p.a.Close())
		got := 0
		for {
			// A Write for each Send that was received: after some of them there is nobody at the
			// other end any more.
			_, _ = p.b.PostSend([]transport.SendWR{{Opcode: transport.OpWrite, Flags: transport.Inline, Data: make([]byte, 4096), RemoteSTag: ring.STag()}})
			if err := p.b.Wait(soon()); err != nil {
				break
			}
			var wc [8]transport.Completion
			for _, c := range wc[:p.b.Poll(wc[:])] {
				if c.Opcode == transport.OpRecv && c.Status == transport.StatusSuccess {
					got++
				}
			}
		}
		require.Equal(t, 32, got)
	}
}

func openFiles(t testing.TB) int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("no way to count open files here")
	}
	return len(entries)
}

func TestConnectionsCostNoGoroutine(t *testing.T) {
	settle := func(count func() int, most int) {
		t.Helper()
		for end := soon(); count() > most; time.Sleep(time.Millisecond) {
			require.True(t, time.Now().Before(end), "%d, not %d", count(), most)
		}
	}
	a, b := tcpPair(t) // the first connection of a process opens files of the runtime's
	require.NoError(t, a.Close())
	require.NoError(t, b.Close())
	goroutines, files := runtime.NumGoroutine(), openFiles(t)
	const pairs = 300
	type end struct {
		q transport.QueuePair
		p *rawPeer
	}
	var ends []end
	for range pairs {
		x := &target{}
		_, p, _ := role{prepare: x.prepare(t)}.responder(t)
		p.write(dialogue(x))
		x.verify(t, p)
		ends = append(ends, end{x.q, p})
		var y target
		_, p, _ = role{prepare: y.prepare(t)}.initiator(t)
		ends = append(ends, end{y.q, p})
	}
	require.Greater(t, openFiles(t), 4*pairs)
	settle(runtime.NumGoroutine, goroutines)
	for i, e := range ends {
		if i%2 == 0 {
			require.NoError(t, e.p.c.CloseWrite())
		}
		require.NoError(t, e.q.Close())
		require.NoError(t, e.p.c.Close())
	}
	settle(runtime.NumGoroutine, goroutines)
	settle(func() int { return openFiles(t) }, files)
}

func TestPingPongAllocatesNothing(t *testing.T) {
	var rings, words [2]transport.MemoryRegion
	var slots [2][]byte
	p := connect(t, nil, nil, func(a, b transport.QueuePair) {
		i, q := 0, a
		if b != nil {
			i, q = 1, b
		}
		rings[i] = register(t, q, make([]byte, 64<<10), transport.RemoteWrite|transport.CallerDriven)
		slots[i] = make([]byte, 4)
		words[i] = register(t, q, slots[i], transport.LocalWrite)
		_, err := q.PostRecv([]transport.RecvWR{{Data: slots[i], Region: words[i]}})
		require.NoError(t, err)
	})
	qs := [2]transport.QueuePair{p.a, p.b}
	for _, size := range []int{16, 4096, 64 << 10} {
		for _, q := range qs {
			require.NoError(t, q.SetMaxSegment(32<<10))
		}
		data, wrs, wc, rr := make([]byte, size), make([]transport.SendWR, 2), make([]transport.Completion, 4), make([]transport.RecvWR, 1)
		turn := func() {
			for i, q := range qs {
				wrs[0] = transport.SendWR{Opcode: transport.OpWrite, Flags: transport.Inline | transport.WillDrain, Data: data, RemoteSTag: rings[1-i].STag()}
				wrs[1] = transport.SendWR{Opcode: transport.OpSend, Flags: transport.Inline | transport.WillDrain | transport.Signaled, Data: data[:4]}
				if n, err := q.PostSend(wrs); n != 2 || err != nil {
					t.Fatal(n, err)
				}
				if err := q.Drain(noDeadline); err != nil {
					t.Fatal(err)
				}
				if n := q.Poll(wc); n != 1 {
					t.Fatal(n)
				}
				peer := qs[1-i]
				for peer.Poll(wc) == 0 {
					if err := peer.Wait(noDeadline); err != nil {
						t.Fatal(err)
					}
				}
				rr[0] = transport.RecvWR{Data: slots[1-i], Region: words[1-i]}
				if n, err := peer.PostRecv(rr); n != 1 || err != nil {
					t.Fatal(n, err)
				}
			}
		}
		turn()
		if raceEnabled {
			continue // the race detector makes pools forget
		}
		require.Zero(t, testing.AllocsPerRun(200, turn), "%d bytes", size)
	}
}

// Whatever is called when, nothing hangs, and nothing is left over.
func TestStorm(t *testing.T) {
	for range 12 {
		// What the peer reads is not what it writes: who does both at once gets what it deserves,
		// but not from this test.
		var rings, sources [2]transport.MemoryRegion
		p := connect(t, &transport.Options{SendDepth: 8}, &transport.Options{SendDepth: 8}, func(a, b transport.QueuePair) {
			i, q := 0, a
			if b != nil {
				i, q = 1, b
			}
			rings[i] = register(t, q, make([]byte, 32<<10), transport.RemoteWrite|transport.CallerDriven*transport.Access(rand.N(2)))
			sources[i] = register(t, q, make([]byte, 32<<10), transport.RemoteRead|transport.CallerDriven*transport.Access(rand.N(2)))
			receives(t, q, 256, 64)
		})
		var wg sync.WaitGroup
		for i, q := range []transport.QueuePair{p.a, p.b} {
			s := q.(*soft.QueuePair)
			require.NoError(t, s.SetWriteBuffer(rand.N(64<<10)))
			require.NoError(t, s.SetReadBuffer(64<<10+rand.N(64<<10)))
			require.NoError(t, s.SetNoDelay(rand.N(2) == 0))
			require.NoError(t, s.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true}))
			if rand.N(2) == 0 {
				require.NoError(t, q.SetMaxSegment(1024+rand.N(64521)))
			}
			sink, out := make([]byte, 32<<10), make([]byte, 32<<10)
			local, from := register(t, q, sink, transport.LocalWrite), register(t, q, out, 0)
			for range 2 {
				wg.Go(func() {
					for {
						wrs := []transport.SendWR{
							{Opcode: transport.OpWrite, Flags: transport.Inline, Data: make([]byte, rand.N(32<<10)), RemoteSTag: rings[1-i].STag()},
							{Opcode: transport.OpRead, Flags: transport.Signaled, Data: sink[:rand.N(len(sink))], Region: local, RemoteSTag: sources[1-i].STag()},
							{Opcode: transport.OpWrite, Flags: transport.Fence, Data: out[:rand.N(len(out))], Region: from, RemoteSTag: rings[1-i].STag()},
						}
						if _, err := q.PostSend(wrs[rand.N(3):]); err != nil && err != transport.ErrQueueFull {
							return
						}
						_ = q.Drain(time.Now().Add(rand.N(4 * time.Millisecond)))
					}
				})
				wg.Go(func() {
					var wc [4]transport.Completion
					for {
						q.Poll(wc[:rand.N(5)])
						err := q.Wait(time.Now().Add(rand.N(2 * time.Millisecond)))
						if err != nil && err != os.ErrDeadlineExceeded && err != transport.ErrInterrupted {
							return
						}
					}
				})
			}
			wg.Go(func() {
				for range 20 {
					time.Sleep(rand.N(time.Millisecond))
					q.Interrupt()
				}
				switch rand.N(5) {
				case 0:
					_ = rings[i].Deregister()
				case 1:
					_ = sources[i].Deregister()
				case 2:
					_ = from.Deregister()
				case 3:
					_ = q.Abort()
				}
				_ = q.Close()
			})
		}
		wg.Wait()
	}
}

// What is lent is the caller's again once Drain has returned, for whatever reason: what was posted
// is sent, and not what the caller has put there since.
func TestLentIsTakenOverWhenDrainReturns(t *testing.T) {
	for name, tc := range map[string]struct {
		err   error
		after time.Duration
		do    func(q transport.QueuePair) // while Drain waits
	}{
		"deadline":  {os.ErrDeadlineExceeded, 30 * time.Millisecond, func(transport.QueuePair) {}},
		"interrupt": {transport.ErrInterrupted, limit, transport.QueuePair.Interrupt},
		"close":     {transport.ErrClosed, limit, func(q transport.QueuePair) { _ = q.Close() }},
	} {
		t.Run(name, func(t *testing.T) {
			q, p, _ := role{}.initiator(t)
			narrow(t, q, p)
			require.NoError(t, q.SetMaxSegment(32<<10))
			const head = 1000 // which is copied
			want := random(1 << 20)
			data := bytes.Clone(want)
			wr := transport.SendWR{Opcode: transport.OpWrite, Flags: transport.Inline | transport.WillDrain | transport.Lent, Data: data[:head]}
			rest := wr
			rest.Data, rest.RemoteOffset = data[head:], head
			post(t, q, wr, rest)
			timer := time.AfterFunc(10*time.Millisecond, func() { tc.do(q) })
			defer timer.Stop()
			require.Equal(t, tc.err, q.Drain(time.Now().Add(tc.after)))
			clear(data)
			for got := 0; got < len(want); {
				s := p.nextOfUser() // with a good CRC
				require.True(t, bytes.Equal(want[s.T.TO:][:len(s.Payload)], s.Payload), "at %d", got)
				got += len(s.Payload)
			}
		})
	}
}
