package shm

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport"
)

// TestPushedRequests are handed to the function, new ones and those on links, once it takes them or
// the listener is closed.
func TestPushedRequests(t *testing.T) {
	l := newAttended(t, nil, "127.0.0.1:0")
	var c *connector
	dial := func() <-chan error {
		c = l.dial()
		ended := make(chan error, 1)
		go func() { _, err := c.Connect(l.ctx, nil); ended <- err }()
		return ended
	}
	ended := dial() // comes before anybody asks for it
	later, taken, takes := make(chan struct{}), make(chan *arrived), true
	asked := make(chan struct{}, 1)
	l.server.PushRequests(func(r transport.Request) (<-chan struct{}, bool) {
		if !takes {
			takes = true
			asked <- struct{}{}
			return later, false
		}
		_ = r.Accept(l.ctx, nil)
		taken <- r.(*arrived)
		return nil, true
	})
	r := <-taken
	require.NoError(t, <-ended)
	require.False(t, r.linked)
	_, _ = r.q.Close(), c.q.Close()
	require.Eventually(t, func() bool { return l.client.room.has(l.site()) }, patience, time.Millisecond, "a link is kept")

	takes = false
	ended = dial()
	<-asked
	close(later)
	r = <-taken
	require.NoError(t, <-ended)
	require.True(t, r.linked)
	_, _ = r.q.Close(), c.q.Close()

	later, takes = nil, false
	ended = dial()
	<-asked
	require.NoError(t, l.server.Close())
	require.Error(t, <-ended)
}
