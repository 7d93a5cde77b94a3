package soft

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestFloor has messages composed one after another, requests and responses in turn.
func TestFloor(t *testing.T) {
	for _, c := range []struct {
		f                         floor
		none, send, respond, both floor // who is next if neither, one of them or both can be composed
		finished                  floor
	}{
		{floorSent, floorSent, floorSend, floorResponse, floorResponse, floorSent},
		{floorSend, floorSend, floorSend, floorSend, floorSend, floorSent},
		{floorResponded, floorResponded, floorSend, floorResponse, floorSend, floorResponded},
		{floorResponse, floorResponse, floorResponse, floorResponse, floorResponse, floorResponded},
	} {
		require.Equal(t, c.none, c.f.next(false, false), "%d", c.f)
		require.Equal(t, c.send, c.f.next(true, false), "%d", c.f)
		require.Equal(t, c.respond, c.f.next(false, true), "%d", c.f)
		require.Equal(t, c.both, c.f.next(true, true), "%d", c.f)
		require.Equal(t, c.finished, c.f.finish(), "%d", c.f)
	}
}

// TestPhases never goes back, in whatever order the ends come.
func TestPhases(t *testing.T) {
	all := []phase{phaseOpen, phaseRefused, phaseClosing, phaseEnded}
	for _, from := range all {
		require.Equal(t, from == phaseOpen, from.composes())
		for _, to := range all {
			p := from
			p.reach(to)
			require.Equal(t, max(from, to), p)
		}
	}
}
