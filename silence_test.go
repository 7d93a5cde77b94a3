package iwarp

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestSilenceLearned waits less for clients once some in a row were silent, and as long as before
// once one asks for iWARP.
func TestSilenceLearned(t *testing.T) {
	seen := iwarpSeen.Load()
	run := processRun.Load()
	t.Cleanup(func() { iwarpSeen.Store(seen); processRun.Store(run) })
	iwarpSeen.Store(false)
	processRun.Store(0)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	d, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer d.Close()
	c := d.(*net.TCPConn)

	old := longSilence
	t.Cleanup(func() { longSilence = old })
	longSilence = time.Second
	one, other, fixed := newSilence(0), newSilence(0), newSilence(5*time.Second)
	for range silentRun {
		require.Equal(t, time.Second, one.patience(c))
		one.kept()
		fixed.kept()
	}
	for _, s := range []*silence{one, other, newSilence(0)} {
		require.GreaterOrEqual(t, s.patience(c), 20*time.Millisecond)
		require.Less(t, s.patience(c), time.Second)
	}
	other.broken()
	require.Equal(t, time.Second, other.patience(c))
	require.Equal(t, time.Second, newSilence(-1).patience(c), "one of the listeners has clients of iWARP")
	require.Less(t, one.patience(c), time.Second, "which has none")
	one.broken()
	require.Equal(t, time.Second, one.patience(c))
	require.Equal(t, 5*time.Second, fixed.patience(c))
}
