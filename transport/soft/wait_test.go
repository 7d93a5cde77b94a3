package soft_test

import (
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/internal/transporttest"
	"github.com/rdmanet/iwarp/transport/soft"
)

func TestCompletionOfASendEndsTheWaitOfAnother(t *testing.T) {
	q, _, _ := role{}.initiator(t)
	for range 30 {
		waiting := make(chan error, 1)
		go func() { waiting <- q.Wait(soon()) }()
		time.Sleep(time.Millisecond) // not needed for the result: it makes a Wait that is blocked the usual case
		post(t, q, transport.SendWR{ID: 5, Opcode: transport.OpSend, Flags: transport.Inline | transport.Signaled})
		require.NoError(t, <-waiting)
		require.Equal(t, transport.Completion{ID: 5, Opcode: transport.OpSend}, next(t, q))
	}
}

func TestInterruptEndsEveryWait(t *testing.T) {
	q, _, _ := role{}.initiator(t)
	const waits = 4
	for range 50 {
		ended := make(chan error, waits)
		for range waits {
			go func() { ended <- q.Wait(soon()) }()
		}
		transporttest.Interrupted(t, q, waits, ended)
	}
}

func TestOneInterruptEndsWaitsThatAreBlocked(t *testing.T) {
	q, p, _ := role{prepare: func(q transport.QueuePair) { receives(t, q, 8, 4) }}.initiator(t)
	const waits = 3
	ended := make(chan error, waits)
	for range waits {
		go func() { ended <- q.Wait(soon()) }()
	}
	// A call that is woken by a completion that another one polls is blocked again.
	p.write(send(1, nil))
	for range waits {
		require.NoError(t, <-ended)
	}
	require.Equal(t, transport.OpRecv, next(t, q).Opcode)
	_ = q.Wait(time.Now()) // takes what Interrupt may have left
	blocked := make(chan struct{}, waits)
	for range waits {
		go func() {
			blocked <- struct{}{}
			ended <- q.Wait(soon())
		}()
	}
	for range waits {
		<-blocked
	}
	time.Sleep(20 * time.Millisecond) // not needed for the result: it makes the case the usual one
	q.Interrupt()
	for range waits {
		require.Equal(t, transport.ErrInterrupted, <-ended)
	}
}

// An interrupt that nobody is blocked for ends the next call at most once.
func TestInterruptBeforehand(t *testing.T) {
	q, _, _ := role{}.initiator(t)
	q.Interrupt()
	q.Interrupt()
	require.Equal(t, transport.ErrInterrupted, q.Wait(soon()))
	require.Equal(t, os.ErrDeadlineExceeded, q.Wait(time.Now().Add(time.Millisecond)))
}

func TestWaitBeforeTheConnectionIsUp(t *testing.T) {
	a, b := tcpPair(t)
	p := rawConn(t, a)
	r := role{}
	var q transport.QueuePair
	waiting := make(chan error, 1)
	p.write(r.peerFrame(false))
	req, err := soft.New(nil).Server(testContext(t), b, nil)
	require.NoError(t, err)
	q = req.QueuePair()
	t.Cleanup(func() { q.Close() })
	require.Equal(t, transport.StateIdle, q.State())
	receives(t, q, 1, 4)
	require.Equal(t, os.ErrDeadlineExceeded, q.Wait(time.Now().Add(time.Millisecond)))
	n, err := q.PostSend([]transport.SendWR{{Opcode: transport.OpSend, Flags: transport.Inline}})
	require.Zero(t, n)
	require.Equal(t, transport.ErrNotConnected, err)
	go func() { waiting <- q.Wait(soon()) }()
	require.NoError(t, req.Accept(testContext(t), nil))
	p.frame(true)
	p.write(send(1, []byte("news")))
	require.NoError(t, <-waiting)

	// The same for the end that asks: what it reads first is the reply, whoever waits meanwhile.
	a, b = tcpPair(t)
	p = rawConn(t, b)
	c, err := soft.New(nil).Client(a, nil)
	require.NoError(t, err)
	t.Cleanup(func() { c.QueuePair().Close() })
	receives(t, c.QueuePair(), 1, 4)
	started := make(chan struct{})
	go func() {
		close(started)
		waiting <- c.QueuePair().Wait(soon())
	}()
	<-started
	p.write(concat(r.peerFrame(true), send(1, []byte("news"))))
	_, err = c.Connect(testContext(t), nil)
	require.NoError(t, err)
	require.NoError(t, <-waiting)
	require.Equal(t, 4, next(t, c.QueuePair()).Bytes)
}

func TestWaitEndsWithAConnectionThatFailsToCome(t *testing.T) {
	a, b := tcpPair(t)
	p := rawConn(t, b)
	c, err := soft.New(nil).Client(a, nil)
	require.NoError(t, err)
	waiting := make(chan error, 1)
	go func() { waiting <- c.QueuePair().Wait(soon()) }()
	require.NoError(t, p.c.CloseWrite())
	_, err = c.Connect(testContext(t), nil)
	require.ErrorIs(t, err, transport.ErrNotIWARP)
	require.ErrorIs(t, <-waiting, transport.ErrClosed)
}

// What is flushed can be polled before Wait tells why.
func TestFlushedWorkComesBeforeTheError(t *testing.T) {
	q, p, _ := role{}.initiator(t)
	sink := make([]byte, 8)
	region, err := q.RegisterMemory(sink, transport.LocalWrite)
	require.NoError(t, err)
	post(t, q, transport.SendWR{ID: 1, Opcode: transport.OpRead, Data: sink, Region: region, RemoteSTag: 9},
		transport.SendWR{ID: 2, Opcode: transport.OpSend, Flags: transport.Inline | transport.Fence})
	draining := make(chan error, 1)
	go func() { draining <- q.Drain(soon()) }()
	require.NoError(t, p.c.SetLinger(0))
	require.NoError(t, p.c.Close())
	var got []uint64
	for len(got) < 2 {
		require.NoError(t, q.Wait(soon()))
		var wc [1]transport.Completion
		for q.Poll(wc[:]) > 0 {
			require.Equal(t, transport.StatusFlushed, wc[0].Status)
			got = append(got, wc[0].ID)
		}
	}
	require.Equal(t, []uint64{1, 2}, got)
	require.ErrorIs(t, q.Wait(soon()), syscall.ECONNRESET)
	require.ErrorIs(t, <-draining, syscall.ECONNRESET)
	require.ErrorIs(t, q.Drain(soon()), syscall.ECONNRESET, "not all has left")
}

// What the kernel has taken is sent: a failure after that belongs to what is posted next.
func TestDrainOfWhatWasSentBeforeAFailure(t *testing.T) {
	const drains = transport.Inline | transport.WillDrain
	sent := transport.SendWR{Opcode: transport.OpSend, Flags: drains, Data: []byte("sent")}
	stuck := transport.SendWR{Opcode: transport.OpSend, Flags: transport.Inline, Data: make([]byte, 8<<20)}
	owed := stuck
	owed.Flags = drains
	for _, tt := range []struct {
		name string
		wrs  []transport.SendWR
		want error
	}{
		{"all", []transport.SendWR{sent}, nil},
		{"all but what nobody drains", []transport.SendWR{sent, stuck}, nil},
		{"not all", []transport.SendWR{sent, owed}, syscall.ECONNRESET},
		{"what was posted without a word about it", []transport.SendWR{stuck}, syscall.ECONNRESET},
	} {
		t.Run(tt.name, func(t *testing.T) {
			q, p, _ := role{}.initiator(t)
			narrow(t, q, p)
			post(t, q, tt.wrs...)
			soft.FailSending(q.(*soft.QueuePair), syscall.ECONNRESET)
			require.ErrorIs(t, q.Drain(soon()), tt.want)
			_, err := q.PostSend([]transport.SendWR{sent})
			require.ErrorIs(t, err, syscall.ECONNRESET)
		})
	}
}
