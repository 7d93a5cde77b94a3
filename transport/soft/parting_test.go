package soft_test

import (
	"bytes"
	"io"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/soft"
)

// stuffed returns a queue pair with more to send than the kernels on both sides take.
func stuffed(t *testing.T, data []byte) (transport.QueuePair, *rawPeer) {
	t.Helper()
	q, p, _ := role{}.initiator(t)
	narrow(t, q, nil)
	require.NoError(t, q.SetMaxSegment(32<<10))
	post(t, q, transport.SendWR{Opcode: transport.OpSend, Flags: transport.Inline, Data: data})
	return q, p
}

// handed returns a queue pair with more to send than the peer's kernel takes, but not more than its
// own.
func handed(t *testing.T) (q transport.QueuePair, p *rawPeer, data []byte) {
	t.Helper()
	q, p, _ = role{}.initiator(t)
	require.NoError(t, q.(*soft.QueuePair).SetWriteBuffer(1<<20))
	require.NoError(t, q.SetMaxSegment(32<<10))
	data = random(150_000)
	post(t, q, transport.SendWR{Opcode: transport.OpSend, Flags: transport.Inline, Data: data})
	require.NoError(t, q.Drain(soon()))
	return q, p, data
}

// takes has p read everything, which must be data as one Send, and the end of the stream.
func (p *rawPeer) takes(data []byte) {
	p.t.Helper()
	got := p.sends()
	require.Len(p.t, got, 1)
	require.True(p.t, bytes.Equal(data, got[0]))
}

// partings waits until there are n.
func partings(t *testing.T, n int) {
	t.Helper()
	require.Eventually(t, func() bool {
		now, _, _, _ := soft.Partings()
		return now == n
	}, limit, time.Millisecond)
}

// Connections that are closed while their peers do not read cost no goroutine each, and their peers
// get everything.
func TestCloseOfManyWhosePeersDoNotRead(t *testing.T) {
	partings(t, 0) // those of tests before
	_, most, _, _ := soft.Partings()
	data := random(400_000)
	many := min(most, 200)
	if raceEnabled {
		many = min(most, 50) // or else it takes many seconds
	}
	queues, peers := make([]transport.QueuePair, many), make([]*rawPeer, many)
	for i := range queues {
		queues[i], peers[i] = stuffed(t, data)
	}
	before := runtime.NumGoroutine()
	for _, q := range queues {
		require.NoError(t, q.Close())
	}
	require.Eventually(t, func() bool { return runtime.NumGoroutine() <= before }, limit, time.Millisecond)
	partings(t, len(queues))
	var wg sync.WaitGroup
	for _, p := range peers {
		require.NoError(t, p.c.SetDeadline(soon()))
		wg.Go(func() { p.takes(data) })
	}
	wg.Wait()
	partings(t, 0)
}

// The number of closed connections that are not over is bounded. The oldest gives way that the
// kernel can finish, and only where there is none such, the oldest is reset.
func TestPartingsAreBounded(t *testing.T) {
	partings(t, 0)
	defer soft.BoundPartings(2)()
	_, _, plain, reset := soft.Partings()
	data := random(400_000)
	stuck, stuckPeer := stuffed(t, data)
	require.NoError(t, stuck.Close())
	easy, easyPeer, bulk := handed(t)
	require.NoError(t, easy.Close())
	partings(t, 2)

	// The second gives way, although the first is older, and loses nothing.
	third, thirdPeer := stuffed(t, data)
	require.NoError(t, third.Close())
	n, _, plain1, reset1 := soft.Partings()
	require.Equal(t, []int{2, plain + 1, reset}, []int{n, plain1, reset1})
	easyPeer.takes(bulk)

	// Then the first is reset.
	fourth, fourthPeer := stuffed(t, data)
	require.NoError(t, fourth.Close())
	_, _, plain2, reset2 := soft.Partings()
	require.Equal(t, []int{plain + 1, reset + 1}, []int{plain2, reset2})
	_, err := io.Copy(io.Discard, stuckPeer.c)
	require.ErrorIs(t, err, syscall.ECONNRESET)
	require.Error(t, stuck.(*soft.QueuePair).AwaitClosed(soon()))
	thirdPeer.takes(data)
	fourthPeer.takes(data)
	partings(t, 0)
}

// A peer that reads only when it has written is not waited for.
func TestCloseWhileThePeerIsBlockedInWriting(t *testing.T) {
	data := random(400_000)
	q, p := stuffed(t, data)
	require.NoError(t, q.(*soft.QueuePair).SetReadBuffer(16<<10))
	wrote := make(chan error, 1)
	go func() {
		_, err := p.c.Write(bytes.Repeat(rtrWrite(), 100_000))
		wrote <- err
	}()
	require.NoError(t, q.Close())
	require.NoError(t, <-wrote)
	p.takes(data)
	partings(t, 0)
}

// Close blocks on nobody who uses the queue pair at the moment.
func TestCloseWhileOthersWait(t *testing.T) {
	data := random(400_000)
	q, p := stuffed(t, data)
	ended := make(chan error, 2)
	go func() { ended <- q.Wait(soon()) }()
	go func() { ended <- q.Drain(soon()) }()
	require.NoError(t, q.Close())
	for range 2 {
		require.ErrorIs(t, <-ended, transport.ErrClosed)
	}
	p.takes(data)
	partings(t, 0)
}

func TestAwaitClosedTellsWhatWasLost(t *testing.T) {
	q, p := stuffed(t, random(400_000))
	closer := q.(*soft.QueuePair)
	closer.WillAwaitClosed()
	require.NoError(t, q.Close())
	require.ErrorIs(t, closer.AwaitClosed(time.Now()), os.ErrDeadlineExceeded)
	require.NoError(t, p.c.SetLinger(0))
	require.NoError(t, p.c.Close())
	require.ErrorIs(t, closer.AwaitClosed(soon()), syscall.ECONNRESET)
	partings(t, 0)
}

// A peer that has ended its direction goes on taking what is on its way.
func TestCloseBehindThePeersEnd(t *testing.T) {
	for _, awaited := range []bool{false, true} {
		data := random(400_000)
		q, p, _ := role{}.initiator(t)
		narrow(t, q, nil)
		// Until a Drain, nobody reads, so nobody would end the queue pair after the peer's end.
		post(t, q, transport.SendWR{Opcode: transport.OpSend, Flags: transport.Inline | transport.WillDrain, Data: data})
		require.NoError(t, p.c.CloseWrite())
		closer := q.(*soft.QueuePair)
		if awaited {
			closer.WillAwaitClosed()
		}
		require.NoError(t, q.Close())
		if awaited { // else the kernel may have been given everything
			require.ErrorIs(t, closer.AwaitClosed(time.Now()), os.ErrDeadlineExceeded)
		}
		p.takes(data)
		require.NoError(t, closer.AwaitClosed(soon()))
		partings(t, 0)
	}
}

// One that knows that the peer has nothing to say keeps no descriptor.
func TestCloseLast(t *testing.T) {
	q, p, data := handed(t)
	require.NoError(t, q.(*soft.QueuePair).CloseLast())
	partings(t, 0)
	p.takes(data)
}

// Nothing is sent after the end of the stream: that would fail, and end what is still on its way.
func TestNothingIsSentBehindTheEnd(t *testing.T) {
	q, p, data := handed(t)
	closer := q.(*soft.QueuePair)
	closer.WillAwaitClosed()
	require.NoError(t, q.Close())
	partings(t, 1)
	soft.SendNothing(closer)
	p.takes(data)
	require.NoError(t, closer.AwaitClosed(soon()))
	partings(t, 0)
}
