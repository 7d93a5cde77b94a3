package rdmanet

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/rdmanet/internal/wire"
)

// receiving is a Conn whose peer was granted the whole of a ring of 4096 bytes and 64 messages.
func receiving(t *testing.T, extended bool) *Conn {
	c := &Conn{extended: extended, stage: newTestStage(t, 512)}
	c.ring.size = 4096
	c.in.start(wire.SGE{Length: 4096}, 64, 2, extended)
	c.ring.grant(c.in.granted)
	if !extended {
		require.True(t, c.grantDue(2), "the peer may wait for the first grant")
		c.ring.grant(uint64(c.in.grant(time.Now()).space.Length))
	}
	require.EqualValues(t, 4096, c.ring.granted)
	return c
}

// arrive has the peer send n messages of size bytes, which are read at once.
func arrive(t *testing.T, c *Conn, n, size int) {
	buf := make([]byte, size)
	for range n {
		require.NoError(t, c.in.message())
		require.NoError(t, c.ring.place(c.ring.placed%c.ring.size, buf))
		require.NoError(t, c.ring.announce(uint64(size)))
		require.Equal(t, size, copyTo(&c.ring, buf))
		c.in.read += uint64(size)
	}
}

func TestPlainPeerIsToldOnlyWhatItNeeds(t *testing.T) {
	for name, s := range map[string]struct {
		before, size, last int // messages until shortly before the grant, their size, that of the last
	}{
		"space":   {before: 4, size: 1000, last: 96},
		"credits": {before: 63, size: 1, last: 1},
	} {
		t.Run(name, func(t *testing.T) {
			c := receiving(t, false)
			arrive(t, c, s.before, s.size)
			require.True(t, c.in.spaceDue() || c.in.creditsDue(2))
			require.False(t, c.grantDue(2), "a peer that has closed would answer with a reset")
			arrive(t, c, 1, s.last)
			require.True(t, c.grantDue(2), "a peer that waits needs it")
			c = receiving(t, true)
			arrive(t, c, s.before, s.size)
			require.True(t, c.grantDue(2), "an extended peer awaits our close")
		})
	}
}

// A plain peer of ours leaves some credits unused. It is told of more when it has been silent for a
// while, and from then on at once.
func TestPlainPeerOfOursKeepsCredits(t *testing.T) {
	const window, kept = 64, 8
	c := receiving(t, false)
	arrive(t, c, window-kept, 1)
	require.True(t, c.in.mayKeep())
	require.False(t, c.grantDue(2), "an rsocket may be about to close")
	c.in.keeps = true
	require.True(t, c.grantDue(2))
	c.in.grant(time.Now())
	arrive(t, c, window-kept-1, 1)
	require.False(t, c.grantDue(2))
	arrive(t, c, 1, 1)
	require.True(t, c.grantDue(2))

	// One that has used them once is none, however large the window has become.
	c = receiving(t, false)
	c.in.window = 6 * window
	arrive(t, c, window-kept+1, 1)
	require.False(t, c.in.mayKeep())
	require.False(t, c.grantDue(2))
	arrive(t, c, kept-1, 1)
	require.True(t, c.grantDue(2))
	c.in.grant(time.Now())
	arrive(t, c, 6*window-kept, 1)
	require.False(t, c.in.mayKeep())
	require.False(t, c.grantDue(2))
}
