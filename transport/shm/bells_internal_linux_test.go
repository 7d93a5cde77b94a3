package shm

import (
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp/transport"
)

// TestBellsFitOnTheSocket however little room the system gives it, so that none is lost.
func TestBellsFitOnTheSocket(t *testing.T) {
	for _, room := range []int{1, 8 << 10, 16 << 10, 32 << 10, 64 << 10} { // the kernel gives twice as much, or its least
		a, b := pairOf(t, fullRing, func(a, b *queuePair) {
			for _, q := range []*queuePair{a, b} {
				require.NoError(t, q.raw.Control(func(fd uintptr) {
					require.NoError(t, unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, room/2))
				}))
				require.NoError(t, q.use(q.sock))
			}
		})
		require.LessOrEqual(t, b.mostBells, uint32(bellsUnread))
		for i := range 3 * bellsUnread {
			receiveOne(t, b.queuePair)
			done := make(chan error, 1)
			go func() { done <- b.Wait(time.Time{}) }()
			for end := time.Now().Add(patience); b.in.reader.Load() != asleep; runtime.Gosched() {
				require.True(t, time.Now().Before(end))
			}
			sendOne(t, a)
			select {
			case err := <-done:
				require.NoError(t, err)
			case <-time.After(patience):
				t.Fatalf("wake-up %d of a socket with room for %d bytes is lost", i, room)
			}
			var wc [4]transport.Completion
			require.Equal(t, 1, b.Poll(wc[:]))
		}
	}
}
