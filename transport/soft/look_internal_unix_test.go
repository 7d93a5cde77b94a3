//go:build unix

package soft

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/internal/instant"
)

func TestLooksOn(t *testing.T) {
	was := mostLookers.Load()
	mostLookers.Store(1)
	defer mostLookers.Store(was)
	var end, other instant.Time
	long, short := &queuePair{cfg: &Config{Poll: time.Hour}}, &queuePair{cfg: &Config{Poll: time.Nanosecond}}
	require.True(t, long.looksOn(&end))
	require.True(t, long.looksOn(&end))
	require.False(t, long.looksOn(&other), "one more than may")
	long.sock.rd.kick()
	require.False(t, long.looksOn(&end), "kicked")
	endLook(other)
	endLook(end)
	require.True(t, short.looksOn(&other))
	require.Eventually(t, func() bool { return !short.looksOn(&other) }, time.Second, time.Microsecond)
	endLook(other)
	require.Zero(t, lookers.Load())
}
