package rdmanet

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/rdmanet/internal/flow"
	"github.com/rdmanet/iwarp/rdmanet/internal/wire"
)

// A receiver is a Conn whose peer is made up.
type receiver struct {
	*Conn
	t      *testing.T
	placed uint64 // bytes of stream
}

// receiving returns one whose peer was granted the whole of a ring of 4096 bytes and 64 messages.
func receiving(t *testing.T, extended bool) *receiver {
	c := &Conn{extended: extended, stage: *newTestStage(t, 512)}
	c.ring.Size = 4096
	c.in.Start(wire.SGE{Length: 4096}, 64, 2, extended)
	c.ring.Grant(c.in.Half())
	second := c.in.Half()
	if !extended {
		require.True(t, c.grantDue(2), "the peer may wait for the first grant")
		second = uint64(c.in.Grant(time.Now()).Space.Length)
	}
	c.ring.Grant(second)
	require.EqualValues(t, 4096, c.in.Half()+second)
	return &receiver{Conn: c, t: t}
}

// arrive has the peer send n messages of size bytes, which are read at once.
func (r *receiver) arrive(n, size int) {
	buf := make([]byte, size)
	for range n {
		require.NoError(r.t, r.in.Message())
		require.NoError(r.t, r.ring.Place(r.placed%4096, buf))
		r.placed += uint64(size)
		require.NoError(r.t, r.ring.Announce(uint64(size)))
		require.Equal(r.t, size, readFrom(&r.ring, buf))
		r.in.Consumed(size)
	}
}

// readFrom reads what is there.
func readFrom(r *flow.Ring, b []byte) (n int) {
	for n < len(b) {
		k := copy(b[n:], r.Front())
		if k == 0 {
			break
		}
		r.Drop(k)
		n += k
	}
	return n
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
			c.arrive(s.before, s.size)
			require.True(t, c.in.SpaceDue() || c.in.CreditsDue(2))
			require.False(t, c.grantDue(2), "a peer that has closed would answer with a reset")
			c.arrive(1, s.last)
			require.True(t, c.grantDue(2), "a peer that waits needs it")
			c = receiving(t, true)
			c.arrive(s.before, s.size)
			require.True(t, c.grantDue(2), "an extended peer awaits our close")
		})
	}
}

// A plain peer of ours leaves some credits unused. It is told of more when it has been silent for a
// while, and from then on at once.
func TestPlainPeerOfOursKeepsCredits(t *testing.T) {
	const window, kept = 64, 8
	c := receiving(t, false)
	c.arrive(window-kept, 1)
	require.True(t, c.in.Watch())
	require.False(t, c.grantDue(2), "an rsocket may be about to close")
	require.True(t, c.in.Settle())
	require.True(t, c.grantDue(2))
	c.in.Grant(time.Now())
	c.arrive(window-kept-1, 1)
	require.False(t, c.grantDue(2))
	c.arrive(1, 1)
	require.True(t, c.grantDue(2))

	// One that has used them once is none, however large the window has become.
	c = receiving(t, false)
	c.in.Widen(6 * window)
	c.arrive(window-kept+1, 1)
	require.False(t, c.in.Watch())
	require.False(t, c.grantDue(2))
	c.arrive(kept-1, 1)
	require.True(t, c.grantDue(2))
	c.in.Grant(time.Now())
	c.arrive(6*window-kept, 1)
	require.False(t, c.in.Watch())
	require.False(t, c.grantDue(2))
}

// A peer that is sent data is told of space with that, unless it uses much of what it has before.
func TestSpaceGoesWithData(t *testing.T) {
	c := receiving(t, true)
	c.arrive(2, 1024)
	require.True(t, c.grantDue(2), "nothing goes that way")
	c.talks = true
	require.False(t, c.grantDue(2))
	require.True(t, c.grantDue(4), "a Write takes it along")
	c.arrive(1, 511)
	require.False(t, c.grantDue(2))
	c.arrive(1, 1)
	require.True(t, c.grantDue(2))

	b := &batch{}
	c.addGrant(b, 0)
	c.arrive(1, 1024)
	require.False(t, c.grantDue(2), "it has the other half")
	require.False(t, c.talks)
}
