package iwarp

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport"
)

// leaver is a queue pair of which something is left after Close.
type leaver struct {
	transport.QueuePair
	told []func()
}

func (l *leaver) gone() {
	for _, f := range l.told {
		f()
	}
}

func (l *leaver) Close() error              { return nil }
func (l *leaver) Abort() error              { return nil }
func (l *leaver) OnGone(f func())           { l.told = append(l.told, f) }
func (l *leaver) LocalAddr() netip.AddrPort { return netip.MustParseAddrPort("192.0.2.1:7174") }

// TestDeviceQPHoldsPort keeps the port until the device has done with it.
func TestDeviceQPHoldsPort(t *testing.T) {
	for name, end := range map[string]func(*deviceQP) error{
		"close": (*deviceQP).Close, "abort": (*deviceQP).Abort,
		"behind its back": func(q *deviceQP) error { q.leaveWhenGone(); return q.QueuePair.Close() },
	} {
		ps := &PortSpace{}
		e, err := ps.hold(t.Context(), noAddress, peerNumber(1), nic, false)
		require.NoError(t, err)
		l := &leaver{}
		q := &deviceQP{QueuePair: l, port: e, local: 80}
		require.Equal(t, "192.0.2.1:80", q.LocalAddr().String())
		require.NoError(t, end(q), name)
		require.False(t, isFree(t, e.port.Addr()), name)
		l.gone()
		require.True(t, isFree(t, e.port.Addr()), name)
		require.Zero(t, sockets(ps))
	}
}

// TestHoldFresh takes a port that is shared with nobody.
func TestHoldFresh(t *testing.T) {
	ps := &PortSpace{}
	shared, err := ps.hold(t.Context(), noAddress, peerNumber(1), nic, false)
	require.NoError(t, err)
	fresh, err := ps.hold(t.Context(), noAddress, peerNumber(2), nic, true)
	require.NoError(t, err)
	require.NotEqual(t, shared.port.addrPort(), fresh.port.addrPort())
	other, err := ps.hold(t.Context(), noAddress, peerNumber(3), nic, false)
	require.NoError(t, err)
	require.Same(t, shared.port, other.port)
	for _, e := range []*endpoint{shared, fresh, other} {
		e.leave()
	}
	require.Zero(t, sockets(ps))
}
