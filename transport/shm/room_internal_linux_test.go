package shm

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/internal/netns"
	"github.com/rdmanet/iwarp/transport"
)

// TestRoutesWithoutDials leave few meetings behind, and none to a service that has ended or where
// descriptors are short.
func TestRoutesWithoutDials(t *testing.T) {
	tr := New(nil)
	tr.room.armed = true // so that none is closed because of its age
	t.Cleanup(func() { tr.room.clear() })
	route := func(at netip.AddrPort) error {
		_, err := tr.Route(t.Context(), netip.AddrPort{}, at)
		return err
	}
	waiting := func(at netip.AddrPort) int {
		tr.room.mu.Lock()
		defer tr.room.mu.Unlock()
		return len(tr.room.m[site{netns.Current(), at}])
	}
	l, at := service(t)
	for range 1000 {
		require.NoError(t, route(at))
	}
	require.Equal(t, 1, waiting(at))
	require.NoError(t, l.Close())
	require.ErrorIs(t, route(at), transport.ErrNoRoute)

	for range 2 * mostFresh {
		_, at = service(t)
		require.NoError(t, route(at))
		require.Equal(t, 1, waiting(at), "the newest is there")
		require.LessOrEqual(t, tr.room.fresh, mostFresh)
	}
	c, err := tr.Dial(t.Context(), netip.AddrPort{}, at, nil)
	require.NoError(t, err)
	require.NoError(t, c.Close())
	require.Zero(t, waiting(at), "the dial has it")

	require.True(t, tr.room.clear())
	require.Zero(t, tr.room.fresh)
	require.Empty(t, tr.room.m)
}
