package shm

import (
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/internal/regions"
)

// briefly has the next call wait in a way, as if the last one had been brief.
func briefly(q *made, w way) {
	q.leads, q.sleep.brief, q.sleep.choice = true, true, choice{way: w, left: 100}
}

// waits has a call of Wait begin, as if the last one had been brief and w were the best way, and
// returns how the call ends.
func waits(t *testing.T, q *made, w way) <-chan error {
	t.Helper()
	mostDozers.Add(100) // others may have brief waits, too
	t.Cleanup(countProcessors)
	briefly(q, w)
	ended := make(chan error, 1)
	go func() { ended <- q.Wait(time.Time{}) }()
	return ended
}

// dozes has a call of Wait doze, and returns how the call ends.
func dozes(t *testing.T, q *made) <-chan error {
	t.Helper()
	watch.remove(q.queuePair) // or the doze may be over before it is seen
	ended := waits(t, q, wayDoze)
	for end := time.Now().Add(patience); q.in.reader.Load() != dozing; runtime.Gosched() {
		require.True(t, time.Now().Before(end), "the call does not doze")
	}
	watch.add(q.queuePair)
	watch.arm()
	return ended
}

func receiveOne(t *testing.T, q *queuePair) {
	t.Helper()
	mem, err := q.RegisterMemory(make([]byte, 8), transport.LocalWrite)
	require.NoError(t, err)
	_, err = q.PostRecv([]transport.RecvWR{{Data: mem.(*regions.Region).Mem, Region: mem}})
	require.NoError(t, err)
}

func sendOne(t *testing.T, q *made) {
	t.Helper()
	_, err := q.PostSend([]transport.SendWR{{Opcode: transport.OpSend, Flags: transport.Inline, Data: []byte("x")}})
	require.NoError(t, err)
}

// TestDoze has everything end a doze that ends a wait.
func TestDoze(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(t *testing.T, a, b *made)
		want error
	}{
		{"data", func(t *testing.T, a, _ *made) { sendOne(t, a) }, nil},
		{"interrupt", func(_ *testing.T, _, b *made) { b.Interrupt() }, transport.ErrInterrupted},
		{"close", func(t *testing.T, _, b *made) { require.NoError(t, b.Close()) }, transport.ErrClosed},
		{"end of the peer", func(t *testing.T, a, _ *made) { require.NoError(t, a.Close()) }, io.EOF},
		{"death of the peer", func(t *testing.T, a, _ *made) { require.NoError(t, a.sock.Close()) }, io.ErrUnexpectedEOF},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, b := pairOf(t, fullRing, func(a, b *queuePair) {
				if tt.want == nil {
					receiveOne(t, b)
				}
			})
			ended := dozes(t, b)
			tt.do(t, a, b)
			select {
			case err := <-ended:
				if tt.want == nil {
					require.NoError(t, err)
				} else {
					require.ErrorIs(t, err, tt.want)
				}
			case <-time.After(patience):
				t.Fatal("the call hangs")
			}
		})
	}
}

// TestOneLookFindsADeadPeer of whoever dozes, so that it takes no longer than the time between two.
func TestOneLookFindsADeadPeer(t *testing.T) {
	a, b := pairOf(t, fullRing, func(a, b *queuePair) {})
	ended := dozes(t, b)
	watch.remove(b.queuePair)
	require.NoError(t, a.sock.Close())
	b.watch()
	select {
	case err := <-ended:
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	case <-time.After(patience):
		t.Fatal("the call hangs")
	}
}

// TestLook ends a wait without a sleep, and so without a wake-up.
func TestLook(t *testing.T) {
	for name, do := range map[string]struct {
		do   func(t *testing.T, a, b *made)
		want error
	}{
		"data":            {func(t *testing.T, a, _ *made) { sendOne(t, a) }, nil},
		"interrupt":       {func(_ *testing.T, _, b *made) { b.Interrupt() }, transport.ErrInterrupted},
		"close":           {func(t *testing.T, _, b *made) { require.NoError(t, b.Close()) }, transport.ErrClosed},
		"end of the peer": {func(t *testing.T, a, _ *made) { require.NoError(t, a.Close()) }, io.EOF},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := pairOf(t, fullRing, func(_, b *queuePair) {
				b.t.cfg.Poll = patience
				if do.want == nil {
					receiveOne(t, b)
				}
			})
			before := briefWaits.Load()
			ended := waits(t, b, wayLook)
			for end := time.Now().Add(patience); briefWaits.Load() == before; runtime.Gosched() {
				require.True(t, time.Now().Before(end), "the call does not look")
			}
			do.do(t, a, b)
			err := <-ended
			if do.want == nil {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, do.want)
			}
			require.Zero(t, b.sleep.nights.Load(), "the call has slept")
		})
	}
}

// TestLookFindsADeadPeer ends the wait, and does not look again and again.
func TestLookFindsADeadPeer(t *testing.T) {
	_, b := pairOf(t, fullRing, func(a, b *queuePair) {})
	watch.remove(b.queuePair)
	b.in.way.Store(uint32(wayLook))
	b.sleep.brief = true
	b.sleep.died.Store(true)
	ended := make(chan error, 1)
	go func() { ended <- b.Wait(time.Time{}) }()
	select {
	case err := <-ended:
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	case <-time.After(patience):
		t.Fatal("the call looks on")
	}
}

// TestTheServerFollows has both ends wait in the way that the client has chosen, and what is no way
// do no harm.
func TestTheServerFollows(t *testing.T) {
	a, b := pairOf(t, fullRing, func(a, b *queuePair) {})
	for _, w := range []way{wayLook, wayPoller, wayDoze} {
		briefly(a, w)
		require.Equal(t, w, a.way(time.Now()))
		require.Equal(t, w, b.way(time.Now()))
	}
	watch.remove(b.queuePair)
	b.in.way.Store(77)
	b.sleep.brief = true
	ended := make(chan error, 1)
	go func() { ended <- b.Wait(time.Time{}) }()
	for end := time.Now().Add(patience); b.in.reader.Load() != asleep; runtime.Gosched() {
		require.True(t, time.Now().Before(end), "the call does not sleep in the poller")
	}
	b.Interrupt()
	require.ErrorIs(t, <-ended, transport.ErrInterrupted)
}

// TestLongDoze goes on in the poller.
func TestLongDoze(t *testing.T) {
	_, b := pairOf(t, fullRing, func(a, b *queuePair) {})
	ended := dozes(t, b)
	for end := time.Now().Add(patience); b.in.reader.Load() != asleep; runtime.Gosched() {
		require.True(t, time.Now().Before(end), "the call dozes on")
	}
	b.Interrupt()
	require.ErrorIs(t, <-ended, transport.ErrInterrupted)
}

// TestWatchOverALateDoze goes on until the call dozes that was held up as it was about to, and ends
// that doze.
func TestWatchOverALateDoze(t *testing.T) {
	_, b := pairOf(t, fullRing, func(a, b *queuePair) {})
	watch.remove(b.queuePair)
	s := &b.sleep
	b.Crew.Await(&b.Crew.Token, nil) // the test is the call that is about to doze
	defer b.Crew.Give(&b.Crew.Token)
	s.dozer.word.Store(b.in.reader)
	s.nights.Add(1)
	for range 3 {
		require.True(t, b.watch())
	}
	b.in.reader.Store(dozing)
	require.True(t, b.watch())
	require.Equal(t, uint32(awake), b.in.reader.Load())
	s.getUp()
	require.False(t, b.watch())
}

// TestNoDozeBeforeADeadline lets none run into one.
func TestNoDozeBeforeADeadline(t *testing.T) {
	_, b := pairOf(t, fullRing, func(a, b *queuePair) {})
	briefly(b, wayDoze)
	mostDozers.Add(100)
	t.Cleanup(countProcessors)
	ended := make(chan error, 1)
	go func() { ended <- b.Wait(time.Now().Add(longDoze / 2)) }()
	for {
		select {
		case err := <-ended:
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			return
		default:
			require.NotEqual(t, uint32(dozing), b.in.reader.Load())
			runtime.Gosched()
		}
	}
}

// TestSendCompletesDuringADoze ends the doze of a call that waits for it.
func TestSendCompletesDuringADoze(t *testing.T) {
	a, _, _, ring := ringed(t, ringSize)
	ended := dozes(t, a)
	watch.remove(a.queuePair) // which would end the doze after a while
	_, err := a.PostSend(writeOf(ring, []byte("x"), transport.Signaled))
	require.NoError(t, err)
	select {
	case err := <-ended:
		require.NoError(t, err)
	case <-time.After(patience):
		t.Fatal("the call hangs")
	}
}

// TestNoDozeForAStranger has only peers that have power over the process anyway hold a doze up.
func TestNoDozeForAStranger(t *testing.T) {
	stranger := uint32(os.Geteuid()) + 1
	for uid, want := range map[uint32]uint32{stranger: asleep, 0: dozing, uint32(os.Geteuid()): dozing} {
		_, b := pairOf(t, fullRing, func(_, b *queuePair) { b.cred.Uid = uid })
		watch.remove(b.queuePair)
		ended := waits(t, b, wayDoze)
		state := b.in.reader.Load()
		for end := time.Now().Add(patience); state == awake; state = b.in.reader.Load() {
			require.True(t, time.Now().Before(end), "the call does not sleep")
			runtime.Gosched()
		}
		require.Equal(t, want, state, "user %d", uid)
		b.Interrupt()
		require.ErrorIs(t, <-ended, transport.ErrInterrupted)
	}
}

// TestFaultInADoze leaves nothing behind through which memory would be used that is gone.
func TestFaultInADoze(t *testing.T) {
	a, _ := pairOf(t, fullRing, func(a, b *queuePair) {})
	mem := a.in.mem
	protect := func(how int) { require.NoError(t, unix.Mprotect(mem, how)) }
	a.Crew.Await(&a.Crew.Token, nil)
	mostDozers.Add(100)
	t.Cleanup(countProcessors)
	briefly(a, wayDoze)
	func() { // as Drive does once it has found nothing
		defer a.survive(debug.SetPanicOnFault(true))
		protect(unix.PROT_NONE)
		a.sleep.rest(&a.Waiting, a.Waiting.Begin(), time.Time{})
	}()
	protect(unix.PROT_READ | unix.PROT_WRITE)
	a.Crew.Give(&a.Crew.Token)
	require.Nil(t, a.sleep.dozer.word.Load())
	require.Nil(t, a.sleep.on.Load())
	require.Zero(t, a.sleep.nights.Load()%2)
	require.ErrorIs(t, a.Wait(time.Now().Add(patience)), syscall.ENOMEM)
}
