package shm

import (
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport"
)

// TestLateKick of somebody who has seen a call sleep, and wakes it when all is over: it must not
// meet the handshake of the next connection, which has the same socket.
func TestLateKick(t *testing.T) {
	for name, end := range map[string]func(a, b *queuePair) *queuePair{
		"client": func(a, _ *queuePair) *queuePair { return a },
		"server": func(_, b *queuePair) *queuePair { return b },
	} {
		t.Run(name, func(t *testing.T) {
			l := newAttended(t, nil, "127.0.0.1:0")
			a, b := l.connect(l.server)
			q := end(a, b)
			q.sleep.kicks.Lock()
			var all sync.WaitGroup
			all.Go(func() { _ = a.Close() })
			all.Go(func() { _ = b.Close() })
			for end := time.Now().Add(patience); q.Err() != transport.ErrClosed; runtime.Gosched() {
				require.True(t, time.Now().Before(end))
			}
			kept := func() bool {
				if q == b {
					return len(l.kept()) > 0
				}
				l.client.room.mu.Lock()
				defer l.client.room.mu.Unlock()
				return l.client.room.links > 0
			}
			for range 1000 {
				require.False(t, kept())
			}
			_ = q.sock.SetReadDeadline(past)
			q.sleep.kicks.Unlock()
			all.Wait()
			require.True(t, kept())
			first := a.sock
			a, b = l.connect(l.server)
			require.Same(t, first, a.sock)
			require.NoError(t, a.Close())
			require.NoError(t, b.Close())
		})
	}
}
