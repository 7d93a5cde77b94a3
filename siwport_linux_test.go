package iwarp_test

import (
	"net"
	"net/netip"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/transport"
)

func newSIW() (*rnic, siw) { return newKernelPorts(siwDevice) }

func newKernelPorts(d transport.Device) (*rnic, siw) {
	iwarp.ForgetPeers()
	n := newRNIC(d)
	return n, siw{n}
}

// requireHeld shows that nobody can take the port, with SO_REUSEADDR or as package net does.
func requireHeld(t testing.TB, a net.Addr, when string) {
	t.Helper()
	require.ErrorIs(t, thief(t, a), syscall.EADDRINUSE, when)
	_, err := net.Listen("tcp", a.String())
	require.ErrorIs(t, err, syscall.EADDRINUSE, when)
}

// steal listens on the port of addr with SO_REUSEADDR until the test ends.
func steal(t testing.TB, addr net.Addr) {
	t.Helper()
	l, err := net.Listen("tcp", addr.String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
}

// TestSIWBindsBeside lets a device's socket in while its connection is made, and nobody else
// before, beside or after.
func TestSIWBindsBeside(t *testing.T) {
	n, nic := newSIW()
	l := listen(t, iwarp.ListenConfig{Transports: withSoft(nic)})
	beside := net.TCPAddrFromAddrPort(n.lastListen().local)
	requireHeld(t, beside, "where the device listens")
	c, s := meet(t, l, func() net.Conn { return dialDevice(t, l, nic, iwarp.OffloadPrefer) })
	require.Equal(t, "siw0", describe(t, c).Device)
	requireHeld(t, c.LocalAddr(), "the port of the connection")
	local := c.LocalAddr()
	exchange(t, c, s, "hello")
	require.NoError(t, l.Close())
	requireHeld(t, beside, "where a connection is left")
	require.NoError(t, s.Close())
	require.NoError(t, c.Close())
	eventually(t, func() bool { return thief(t, local) == nil }, "the port is free")
}

// serving is a server that has siw as well, of another host as it were.
func serving() iwarp.ListenConfig {
	_, nic := newSIW()
	return iwarp.ListenConfig{Transports: withSoft(nic), PortSpace: &iwarp.PortSpace{}}
}

// acceptFrom returns the connection from an address. Another one may come before it, which the
// client has given up.
func acceptFrom(t testing.TB, next func() net.Conn, a net.Addr) net.Conn {
	t.Helper()
	s := next()
	if s.RemoteAddr().String() != a.String() {
		s = next()
	}
	require.Equal(t, a.String(), s.RemoteAddr().String())
	return s
}

// TestSIWPortStolen takes another port where somebody was quick enough to listen on the one that
// was open to the device.
func TestSIWPortStolen(t *testing.T) {
	for name, at := range map[string]step{"before the device": beforeBind, "behind the device": afterConnect} {
		t.Run(name, func(t *testing.T) {
			n, nic := newSIW()
			ps := &iwarp.PortSpace{}
			l := listen(t, serving())
			next := acceptEach(t, l)
			stolen := 0
			n.onConnect = func(local netip.AddrPort, s step) {
				if s == at && stolen == 0 {
					stolen++
					steal(t, net.TCPAddrFromAddrPort(local))
				}
			}
			d := iwarp.Dialer{Transports: []transport.Transport{nic}, Timeout: patience, PortSpace: ps, Offload: iwarp.OffloadRequire}
			c, err := d.Dial("tcp", l.Addr().String())
			require.NoError(t, err)
			defer c.Close()
			exchange(t, c, acceptFrom(t, next, c.LocalAddr()), "hello")
			require.Len(t, n.locals, 2)
			require.NotEqual(t, n.locals[0], n.locals[1])
			require.Equal(t, n.locals[1].String(), c.LocalAddr().String())
			requireHeld(t, c.LocalAddr(), "the port of the connection")
			require.Len(t, ps.Reservations(), 1)

			// With a port that the user wants there is no other.
			r := reserve(t, ps, "tcp", "127.0.0.1:0")
			stolen, d.LocalAddr = 0, r.Addr()
			_, err = d.Dial("tcp", l.Addr().String())
			require.ErrorIs(t, err, syscall.EADDRINUSE)
			var why *iwarp.OffloadError
			require.ErrorAs(t, err, &why)
			require.Equal(t, iwarp.ReasonPortConflict, why.Reason)
		})
	}
}

// TestSIWPortLost checks that no more connections are made from a port that another process listens
// on, and that those that exist are kept.
func TestSIWPortLost(t *testing.T) {
	n, nic := newSIW()
	ps := &iwarp.PortSpace{}
	d := iwarp.Dialer{Transports: []transport.Transport{nic}, Timeout: patience, PortSpace: ps, Offload: iwarp.OffloadRequire}
	connect := func() (net.Conn, net.Conn) {
		l := listen(t, serving())
		next := acceptEach(t, l)
		c, err := d.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		t.Cleanup(func() { _ = c.Close() })
		return c, acceptFrom(t, next, c.LocalAddr())
	}
	first, s := connect()
	n.onConnect = func(local netip.AddrPort, at step) {
		if at == afterConnect {
			n.onConnect = nil
			steal(t, net.TCPAddrFromAddrPort(local))
		}
	}
	second, _ := connect()
	third, _ := connect()
	require.NotEqual(t, first.LocalAddr().String(), second.LocalAddr().String())
	require.NotEqual(t, first.LocalAddr().String(), third.LocalAddr().String())
	require.Len(t, n.locals, 4, "the port that was lost is not tried again")
	exchange(t, first, s, "hello")
}

// TestSIWListenStolen listens on another port where somebody was quick enough to take the first.
func TestSIWListenStolen(t *testing.T) {
	n, nic := newSIW()
	stolen := 0
	n.listenHook = func(local netip.AddrPort) error {
		if stolen++; stolen == 1 {
			steal(t, net.TCPAddrFromAddrPort(local))
		}
		return nil
	}
	ps := &iwarp.PortSpace{}
	l := listen(t, iwarp.ListenConfig{Transports: withSoft(nic), PortSpace: ps})
	require.Equal(t, 2, stolen)
	require.Len(t, ps.Reservations(), 2)
	requireHeld(t, net.TCPAddrFromAddrPort(n.lastListen().local), "where the device listens")
	c, s := meet(t, l, func() net.Conn { return dialDevice(t, l, nic, iwarp.OffloadPrefer) })
	exchange(t, c, s, "hello")
	require.Equal(t, n.lastListen().local.Port(), describe(t, c).RedirectPort)
}

// TestSIWDialsAtOnce has many connections come from one port at the same time.
func TestSIWDialsAtOnce(t *testing.T) {
	const destinations = 24
	for _, fixed := range []bool{true, false} {
		t.Run("fixed="+strconv.FormatBool(fixed), func(t *testing.T) {
			_, nic := newSIW()
			ps := &iwarp.PortSpace{}
			d := iwarp.Dialer{Transports: []transport.Transport{nic}, Timeout: patience, PortSpace: ps, Offload: iwarp.OffloadRequire}
			if fixed {
				d.LocalAddr = reserve(t, ps, "tcp", "127.0.0.1:0").Addr()
			}
			for range 3 { // the last round's connections are in TIME_WAIT, to other destinations
				conns, errs := make([]net.Conn, destinations), make([]error, destinations)
				var wg sync.WaitGroup
				for i := range destinations {
					l := listen(t, serving())
					acceptEach(t, l)
					wg.Go(func() { conns[i], errs[i] = d.Dial("tcp", l.Addr().String()) })
				}
				wg.Wait()
				for i, c := range conns {
					require.NoError(t, errs[i])
					require.Equal(t, "siw0", describe(t, c).Device)
					require.Equal(t, conns[0].LocalAddr().String(), c.LocalAddr().String(), "all of them share the port")
				}
				held := ps.Reservations()
				require.Len(t, held, 1)
				require.Equal(t, destinations, held[0].References)
				requireHeld(t, conns[0].LocalAddr(), "nobody dials any more")
				for _, c := range conns[1:] {
					require.NoError(t, c.Close())
				}
				requireHeld(t, conns[0].LocalAddr(), "one is left")
				require.NoError(t, conns[0].Close())
				require.Empty(t, ps.Reservations())
			}
		})
	}
}

// TestSIWDialsInNarrowRange connects although most of the ports to choose from are taken by
// sockets.
func TestSIWDialsInNarrowRange(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	var listeners []*iwarp.Listener
	for range 12 {
		listeners = append(listeners, listen(t, serving()))
	}
	portRange(t, "40000 40003")
	for _, port := range []string{"40000", "40001", "40003"} {
		reserve(t, &iwarp.PortSpace{}, "tcp", "127.0.0.1:"+port)
	}
	_, nic := newSIW()
	for _, l := range listeners {
		c, s := meet(t, l, func() net.Conn { return dialDevice(t, l, nic, iwarp.OffloadRequire) })
		require.Equal(t, "siw0", describe(t, c).Device)
		require.EqualValues(t, 40002, portOf(c.LocalAddr()))
		exchange(t, c, s, "hello")
	}
}

// TestKernelLetsSIWIn holds what the rest relies on against the kernel.
func TestKernelLetsSIWIn(t *testing.T) {
	r := reserve(t, nil, "tcp", "127.0.0.1:0")
	o := order{Addr: "127.0.0.1", Port: int(portOf(r.Addr())), ReuseAddr: true}
	_, _, err := o.Do()
	require.ErrorIs(t, err, syscall.EADDRINUSE, "the reservation is closed")
	raw := func(o order) int {
		fd, _, err := o.Do()
		require.NoError(t, err)
		t.Cleanup(func() { _ = unix.Close(fd) })
		return fd
	}
	open := raw(order{Addr: "127.0.0.2"})
	sa, err := unix.Getsockname(open)
	require.NoError(t, err)
	o = order{Addr: "127.0.0.2", Port: sa.(*unix.SockaddrInet4).Port, ReuseAddr: true}
	_, _, err = o.Do()
	require.ErrorIs(t, err, syscall.EADDRINUSE)
	require.NoError(t, unix.SetsockoptInt(open, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
	raw(o)
	require.NoError(t, unix.SetsockoptInt(open, unix.SOL_SOCKET, unix.SO_REUSEADDR, 0))
	o.Listen = true
	_, _, err = o.Do()
	require.ErrorIs(t, err, syscall.EADDRINUSE, "closed again")
}

// TestAutoLeavesSoftware takes a device that is the kernel's TCP underneath only where the policy
// asks for iWARP, and one that takes kernel ports alone in any case.
func TestAutoLeavesSoftware(t *testing.T) {
	for _, device := range []transport.Device{siwDevice, erdmaDevice} {
		for _, policy := range []iwarp.Offload{iwarp.OffloadAuto, iwarp.OffloadPrefer, iwarp.OffloadRequire} {
			t.Run(device.Name+"/"+policy.String(), func(t *testing.T) {
				n, nic := newKernelPorts(device)
				l := listen(t, iwarp.ListenConfig{Transports: withSoft(nic)})
				beside := n.lastListen().local.Port()
				c, s := meetSpeaking(t, l, func() net.Conn { return dialDevice(t, l, nic, policy) })
				exchange(t, c, s, "hello")
				if device.InSoftware && policy == iwarp.OffloadAuto {
					require.IsType(t, (*net.TCPConn)(nil), c)
					info := describe(t, c)
					require.Equal(t, iwarp.ReasonNoDevice, info.Reason)
					require.EqualError(t, info.Err, "device is in software")
					require.Empty(t, n.takeDials())
					require.Zero(t, l.Stats().Redirected+l.Stats().IWARP, "nobody was asked")
					return
				}
				require.Equal(t, []uint16{beside}, n.takeDials())
				for _, c := range []net.Conn{c, s} {
					info := describe(t, c)
					require.Equal(t, device.Name, info.Device)
					require.Equal(t, !device.InSoftware, info.Offloaded)
				}
				requireHeld(t, c.LocalAddr(), "the port of the connection")
			})
		}
	}
}

// TestAutoRoutesToSoftware has plain TCP where one device offloads, and another one, which does
// not, is the way to the peer.
func TestAutoRoutesToSoftware(t *testing.T) {
	n, nic := newSIW()
	l := listen(t, serving())
	n.devices = append(n.devices, roce)
	for range 2 { // nothing was learned of the peer
		c, s := meetSpeaking(t, l, func() net.Conn { return dialDevice(t, l, nic, iwarp.OffloadAuto) })
		exchange(t, c, s, "hello")
		require.Equal(t, iwarp.ReasonNoDevice, describe(t, c).Reason)
	}
	require.Empty(t, n.takeDials())
	c, s := meet(t, l, func() net.Conn { return dialDevice(t, l, nic, iwarp.OffloadPrefer) })
	exchange(t, c, s, "hello")
	require.Equal(t, "siw0", describe(t, c).Device)
}
