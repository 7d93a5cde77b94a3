package shm

import (
	"net/netip"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestNoTwoWithTheSameFour at a server whose program has not closed its end, although the client
// has given its port up.
func TestNoTwoWithTheSameFour(t *testing.T) {
	for name, closeFirst := range map[string]func(q *queuePair) error{"closed": (*queuePair).Close, "aborted": (*queuePair).Abort} {
		t.Run(name, func(t *testing.T) {
			l := newAttended(t, nil, "127.0.0.1:0")
			l.client.room.age = 0 // no link is kept
			dial := func(local netip.AddrPort) *connector {
				c, err := l.client.Dial(l.ctx, local, l.site().at, nil)
				require.NoError(t, err)
				return c.(*connector)
			}
			connect := func(c *connector, requests int) (a, b *queuePair, err error) {
				var all sync.WaitGroup
				all.Go(func() { _, err = c.Connect(l.ctx, nil) })
				var r *arrived
				for i := range requests {
					r = l.accept(l.server)
					if aerr := r.Accept(l.ctx, nil); i < requests-1 {
						require.ErrorIs(t, aerr, errServed)
					}
				}
				all.Wait()
				return c.q, r.q, err
			}
			a, b, err := connect(l.dial(), 1)
			require.NoError(t, err)
			local := a.local
			require.Equal(t, local, b.remote)
			require.NoError(t, closeFirst(a))

			_, _, err = connect(dial(local), 1)
			require.ErrorIs(t, err, syscall.EADDRINUSE, "another has it, which is still there")

			c := l.dial() // whose port is its own choice
			c.q.local = local
			a2, b2, err := connect(c, 2)
			require.NoError(t, err)
			require.NotEqual(t, local, a2.local)
			require.Equal(t, a2.local, b2.remote)

			require.NoError(t, b.Close())
			a3, b3, err := connect(dial(local), 1)
			require.NoError(t, err)
			require.Equal(t, local, b3.remote)
			for _, q := range []*queuePair{a2, b2, a3, b3} {
				require.NoError(t, q.Close())
			}
			served.mu.Lock()
			defer served.mu.Unlock()
			for k := range served.m {
				require.NotEqual(t, l.server.at, k.local)
			}
		})
	}
}
