package shm

import (
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestShortWaitsFindADeadPeer although each ends before watch sees that somebody sleeps, and the
// peer has died while nobody did.
func TestShortWaitsFindADeadPeer(t *testing.T) {
	a, b, _, _ := ringed(t, 1)
	watch.remove(a.queuePair)
	wait := func() error { return a.Wait(time.Now().Add(time.Millisecond)) }
	require.True(t, isTimeout(wait()))
	require.NoError(t, b.sock.Close())
	err := wait()
	for end := time.Now().Add(patience); isTimeout(err); err = wait() {
		require.True(t, time.Now().Before(end))
	}
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
}
