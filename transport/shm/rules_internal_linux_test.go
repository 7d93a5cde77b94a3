package shm

import (
	"io"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp/transport"
)

func writeOf(r transport.MemoryRegion, data []byte, flags transport.Flags) []transport.SendWR {
	return []transport.SendWR{{Opcode: transport.OpWrite, Flags: transport.Inline | flags, Data: data, RemoteSTag: r.STag()}}
}

// ringed makes a pair whose b has memory for a to write to. a sees to its receives itself.
func ringed(t *testing.T, size int) (a, b *made, mem []byte, ring transport.MemoryRegion) {
	mem = make([]byte, size)
	a, b = pairOf(t, fullRing, func(a, b *queuePair) {
		var err error
		ring, err = b.RegisterMemory(mem, transport.RemoteWrite|transport.CallerDriven)
		require.NoError(t, err)
	})
	return a, b, mem, ring
}

// TestBellsOfOneWhoDoesNotSleep are not rung, and the one is that is to end the first sleep.
func TestBellsOfOneWhoDoesNotSleep(t *testing.T) {
	a, b, _, ring := ringed(t, 4*ringSize)
	data := make([]byte, 4*ringSize)
	for range 1000 {
		// More than the ring has room for, so that each waits for the bell, and looks before it rings.
		n, err := a.PostSend(writeOf(ring, data[:ringSize+1000], transport.WillDrain))
		require.NoError(t, err)
		require.Equal(t, 1, n)
		for done, err := a.drained(); !done; done, err = a.drained() {
			require.NoError(t, err)
			b.Look()
			a.Crew.Await(&a.Crew.Token, nil)
			a.lookOnce()
			a.Crew.Give(&a.Crew.Token)
		}
	}
	require.NoError(t, a.raw.Control(func(fd uintptr) {
		_, _, err := unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
		require.Equal(t, unix.EAGAIN, err, "a bell for one who does not sleep")
	}))
	_, err := a.PostSend(writeOf(ring, data, transport.WillDrain))
	require.NoError(t, err)
	slept := make(chan error, 1)
	go func() { slept <- a.Drain(time.Now().Add(patience)) }()
	for a.sleep.on.Load() == nil {
		time.Sleep(time.Millisecond)
	}
	go func() {
		for b.Err() == nil {
			_ = b.Wait(time.Now().Add(10 * time.Millisecond))
		}
	}()
	require.NoError(t, <-slept)
}

// TestSendThatComesWhileCloseBegins takes nothing from what was posted before, and the peer sees
// the end.
func TestSendThatComesWhileCloseBegins(t *testing.T) {
	a, b, mem, ring := ringed(t, 3*ringSize)
	data := make([]byte, len(mem))
	for i := range data {
		data[i] = byte(i * 7)
	}
	n, err := a.PostSend(writeOf(ring, data, transport.WillDrain))
	require.NoError(t, err)
	require.Equal(t, 1, n)
	a.Crew.Await(&a.Crew.Token, nil) // the test is the call that drives
	closed := make(chan error, 1)
	go func() { closed <- a.Close() }()
	for a.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	n, err = b.PostSend([]transport.SendWR{{Opcode: transport.OpSend, Flags: transport.Inline, Data: []byte("late")}})
	require.NoError(t, err)
	require.Equal(t, 1, n)
	a.receive(nil)
	a.Crew.Give(&a.Crew.Token)
	require.NoError(t, <-closed)
	require.Equal(t, io.EOF, end(b))
	require.Equal(t, data, mem)
}

// TestFlushIsBounded ends a call after a ring, however fast the peer makes room.
func TestFlushIsBounded(t *testing.T) {
	a, b, _, ring := ringed(t, 8*ringSize)
	stop := make(chan struct{})
	ended := make(chan struct{})
	go func() { // pretends to have read all, at all times
		defer close(ended)
		for {
			select {
			case <-stop:
				return
			default:
				b.in.head.Store(b.in.tail.Load())
			}
		}
	}()
	a.tx.mu.Lock()
	_, _, err := a.Enqueue(&a.tx.sq, writeOf(ring, make([]byte, 64<<20), 0), 0)
	require.NoError(t, err)
	a.flush()
	sent := a.tx.pos
	a.tx.mu.Unlock()
	close(stop)
	<-ended
	require.LessOrEqual(t, sent, uint64(ringSize+2*maxPiece))
	require.Equal(t, transport.StateRTS, a.State())
}

// TestRestOfARingThatIsExactlyFull is sent by the call that sleeps, which the peer has not been
// asked to wake.
func TestRestOfARingThatIsExactlyFull(t *testing.T) {
	const size = 8<<10 - headerLen // whose record has a size that divides that of the ring
	a, b, _, ring := ringed(t, ringSize)
	ended := make(chan error, 1)
	go func() { ended <- a.Wait(time.Now().Add(patience)) }()
	for a.sleep.on.Load() == nil {
		time.Sleep(time.Millisecond)
	}
	var wrs []transport.SendWR
	for range ringSize/(8<<10) + 5 {
		wrs = append(wrs, writeOf(ring, make([]byte, size), transport.WillDrain)...)
	}
	n, err := a.PostSend(wrs)
	require.NoError(t, err)
	require.Equal(t, len(wrs), n)
	go func() {
		for b.Err() == nil {
			_ = b.Wait(time.Now().Add(10 * time.Millisecond))
		}
	}()
	require.NoError(t, a.Drain(time.Now().Add(patience)))
	a.Interrupt()
	require.Equal(t, transport.ErrInterrupted, <-ended)
}

// TestRoomAfterSmallMessages has a sender of small messages find room for a larger one at any time,
// though the peer does not read.
func TestRoomAfterSmallMessages(t *testing.T) {
	a, b, _, ring := ringed(t, ringSize)
	data := make([]byte, 20_000)
	for i := range 400 {
		for _, n := range []int{1000, len(data)} {
			_, err := a.PostSend(writeOf(ring, data[:n], transport.WillDrain))
			require.NoError(t, err)
			drained, err := a.drained()
			require.NoError(t, err)
			require.True(t, drained, "message %d, of %d bytes", i, n)
			if i%20 > 0 {
				break
			}
		}
		for b.Look() {
		}
	}
}

// late is a connection whose reads begin late.
type late struct {
	syscall.RawConn
	entered chan struct{}
	begin   chan struct{}
}

func (l late) Read(f func(uintptr) bool) error {
	select {
	case <-l.entered:
	default:
		close(l.entered)
		<-l.begin
	}
	return l.RawConn.Read(f)
}

// TestDeathBeforeThePollerLooks is found by the watcher, as the poller forgets what it saw before a
// sleep began.
func TestDeathBeforeThePollerLooks(t *testing.T) {
	a, b, _, _ := ringed(t, 8)
	l := late{a.raw, make(chan struct{}), make(chan struct{})}
	a.raw = l
	ended := make(chan error, 1)
	go func() { ended <- a.Wait(time.Now().Add(patience)) }()
	<-l.entered
	watch.mu.Lock() // others may be watched over
	a.watch()
	a.watch() // the peer is alive
	watch.mu.Unlock()
	require.NoError(t, b.sock.Close())
	time.Sleep(10 * time.Millisecond) // not needed for the result: the poller has mostly seen it then
	close(l.begin)
	require.Equal(t, io.ErrUnexpectedEOF, <-ended)
}

// TestCloseBesideAPeerThatBreaksTheRules ends at once, and does not turn round and round.
func TestCloseBesideAPeerThatBreaksTheRules(t *testing.T) {
	a, b, _, ring := ringed(t, 4*ringSize)
	n, err := a.PostSend(writeOf(ring, make([]byte, 4*ringSize), transport.WillDrain))
	require.NoError(t, err)
	require.Equal(t, 1, n)
	gone := make(chan struct{})
	a.OnGone(func(bool) { close(gone) })
	require.NoError(t, a.Close())
	b.tx.out.tail.Store(headerLen + 8)
	require.NoError(t, b.raw.Control(func(fd uintptr) { _ = unix.Send(int(fd), bellByte, unix.MSG_DONTWAIT) }))
	select {
	case <-gone:
	case <-time.After(patience / 2):
		t.Fatal("the connection does not end")
	}
}
