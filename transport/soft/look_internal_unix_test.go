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
	require.True(t, looksOn(&end, time.Hour))
	require.True(t, looksOn(&end, time.Hour))
	require.False(t, looksOn(&other, time.Hour), "one more than may")
	endLook(other)
	endLook(end)
	require.True(t, looksOn(&other, time.Nanosecond))
	require.Eventually(t, func() bool { return !looksOn(&other, time.Nanosecond) }, time.Second, time.Microsecond)
	endLook(other)
	require.Zero(t, lookers.Load())
}
