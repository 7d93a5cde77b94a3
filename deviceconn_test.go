package iwarp

import (
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport"
)

// leaver is a queue pair of which something remains after Close.
type leaver struct {
	transport.QueuePair
	told   []func(bool)
	closed bool
}

func (l *leaver) gone() {
	for _, f := range l.told {
		f(false)
	}
}

func (l *leaver) Close() error              { l.closed = true; return nil }
func (l *leaver) Abort() error              { return nil }
func (l *leaver) OnGone(f func(bool))       { l.told = append(l.told, f) }
func (l *leaver) LocalAddr() netip.AddrPort { return netip.MustParseAddrPort("192.0.2.1:7174") }

// lastCloser is a leaver that can be closed as the last one.
type lastCloser struct {
	leaver
	last bool
}

func (l *lastCloser) CloseLast() error { l.last = true; return nil }

// TestDeviceQPCloseLast checks that closing after the peer's last word gives the port back, and
// that there is no way past that.
func TestDeviceQPCloseLast(t *testing.T) {
	able, unable := &lastCloser{}, &leaver{}
	for name, inner := range map[string]transport.QueuePair{"able": able, "unable": unable} {
		ps := &PortSpace{}
		nic := transport.Device{Name: "nic0", OwnPorts: true, Addrs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}
		e, err := ps.hold(t.Context(), netip.AddrPort{}, netip.MustParseAddrPort("192.0.2.2:1000"), nic, false)
		require.NoError(t, err)
		l, ok := transport.As[transport.LastCloser](&deviceQP{QueuePair: inner, port: e})
		require.True(t, ok, name)
		require.NoError(t, l.CloseLast(), name)
		require.False(t, isFree(t, e.AddrPort()), name)
		if g, ok := inner.(*lastCloser); ok {
			g.gone()
		} else {
			unable.gone()
		}
		require.True(t, isFree(t, e.AddrPort()), name)
		require.Empty(t, ps.Reservations(), name)
	}
	require.True(t, able.last)
	require.False(t, able.closed)
	require.True(t, unable.closed)
}

func isFree(t testing.TB, a netip.AddrPort) bool {
	t.Helper()
	l, err := net.Listen("tcp", a.String())
	if err == nil {
		require.NoError(t, l.Close())
	}
	return err == nil
}

// TestDeviceQPHoldsPort keeps the port until the device has done with it.
func TestDeviceQPHoldsPort(t *testing.T) {
	for name, end := range map[string]func(*deviceQP) error{
		"close": (*deviceQP).Close, "abort": (*deviceQP).Abort,
		"behind its back": func(q *deviceQP) error { q.leavePortWhenGone(); return q.QueuePair.Close() },
	} {
		ps := &PortSpace{}
		nic := transport.Device{Name: "nic0", OwnPorts: true, Addrs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}
		e, err := ps.hold(t.Context(), netip.AddrPort{}, netip.MustParseAddrPort("192.0.2.2:1000"), nic, false)
		require.NoError(t, err)
		l := &leaver{}
		q := &deviceQP{QueuePair: l, port: e, local: 80}
		require.Equal(t, "192.0.2.1:80", q.LocalAddr().String())
		require.NoError(t, end(q), name)
		require.False(t, isFree(t, e.AddrPort()), name)
		l.gone()
		require.True(t, isFree(t, e.AddrPort()), name)
		require.Empty(t, ps.Reservations())
	}
}
