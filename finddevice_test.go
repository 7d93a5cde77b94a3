package iwarp_test

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/transport"
)

// TestListenerFindsDevices has a listener serve a device that was plugged in later, or again, with
// and without an Accept under way, and hold nothing of it in the end.
func TestListenerFindsDevices(t *testing.T) {
	rnics(t, func(t *testing.T, n *rnic, nic transport.Transport) {
		device := n.devices[0]
		n.plug()
		l := listen(t, iwarp.ListenConfig{Transports: withSoft(nic)})
		d := iwarp.Dialer{Offload: iwarp.OffloadPrefer, Transports: withSoft(nic), Timeout: patience}
		meets := func(want string) {
			t.Helper()
			iwarp.ForgetPeers()
			c, s := meet(t, l, func() net.Conn { return dialBy(t, &d, "tcp", l.Addr().String()) })
			exchange(t, c, s, "hello")
			require.Equal(t, want, describe(t, c).Transport)
			require.Equal(t, want, describe(t, s).Transport)
		}
		meets("soft")
		n.plug(device)
		require.Equal(t, 1, n.listeners())
		meets("rnic")
		n.plug(device)
		require.Equal(t, 1, n.listeners(), "it listens already")

		n.unplug()
		n.plug()
		meets("soft")
		n.plug(device)
		require.Equal(t, 1, n.listeners())
		meets("rnic")

		// While a call of Accept waits.
		n.unplug()
		n.plug()
		accepted := make(chan net.Conn, 1)
		go func() {
			c, err := l.Accept()
			if err != nil {
				t.Error(err)
			}
			accepted <- c
		}()
		require.Eventually(t, func() bool { return iwarp.Accepts(l) }, patience, time.Millisecond)
		n.plug(device)
		iwarp.ForgetPeers()
		c := dialBy(t, &d, "tcp", l.Addr().String())
		defer c.Close()
		require.Equal(t, "rnic", describe(t, c).Transport)
		s := <-accepted
		defer s.Close()
		exchange(t, c, s, "hello")

		require.NoError(t, l.Close())
		require.Zero(t, n.listeners())
		n.plug()
		n.plug(device)
		require.Zero(t, n.listeners(), "it looks no more")
		n.mu.Lock()
		defer n.mu.Unlock()
		require.Empty(t, n.watchers)
	})
}

// TestListenerFindsSecondDevice has one on the port of the service, beside one that was there.
func TestListenerFindsSecondDevice(t *testing.T) {
	n := newRNIC(rnicKinds["own ports"].device)
	l := listen(t, iwarp.ListenConfig{Transports: withSoft(n)})
	n.plug(n.devices[0], roce)
	require.Equal(t, 2, n.listeners())
	require.Equal(t, listening{l.Addr().(*net.TCPAddr).AddrPort(), transport.Options{Devices: []string{roce.Name}}}, n.lastListen())
}
