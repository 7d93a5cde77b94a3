package iwarp_test

import (
	"context"
	"net"
	"net/netip"
	"os"
	"runtime"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/transport"
)

// TestDeviceHoldsListenersPort closes a listener under a connection that came in through a device:
// the port stays taken, and can be listened on again.
func TestDeviceHoldsListenersPort(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("a port can only be held by listening on it")
	}
	iwarp.ForgetPeers()
	n, ps := newNIC(), &iwarp.PortSpace{}
	lc := iwarp.ListenConfig{Transports: n.transports(), PortSpace: ps}
	l := listen(t, lc)
	d := iwarp.Dialer{Transports: n.transports(), Timeout: patience, PortSpace: &iwarp.PortSpace{}}
	c, s := meet(t, l, func() net.Conn { return dialBy(t, &d, "tcp", l.Addr().String()) })
	require.Equal(t, []iwarp.PortInfo{{Addr: infoAddr(l), State: iwarp.PortListening, Owner: "listener", References: 2}}, ps.Reservations())

	require.NoError(t, l.Close())
	exchange(t, c, s, "hello")
	require.Equal(t, []iwarp.PortInfo{{Addr: infoAddr(l), State: iwarp.PortConnected, Owner: "listener", References: 1}}, ps.Reservations())
	_, err := net.Listen("tcp", l.Addr().String())
	require.ErrorIs(t, err, syscall.EADDRINUSE, "the connection's port is held")
	_, err = net.Dial("tcp", l.Addr().String())
	require.ErrorIs(t, err, syscall.ECONNREFUSED, "by a socket that does not listen")

	clear(n.ports)
	again, err := lc.Listen(t.Context(), "tcp", l.Addr().String())
	require.NoError(t, err, "a restart within the process")
	exchangeMet(t, again.(*iwarp.Listener), func() net.Conn { return dialSoft(t, again) })
	require.NoError(t, again.Close())
	_, err = net.Listen("tcp", l.Addr().String())
	require.ErrorIs(t, err, syscall.EADDRINUSE)

	require.NoError(t, s.Close())
	require.Empty(t, ps.Reservations())
	plain, err := net.Listen("tcp", l.Addr().String())
	require.NoError(t, err)
	require.NoError(t, plain.Close())
}

func infoAddr(l net.Listener) netip.AddrPort {
	a := l.Addr().(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// TestDeviceDialsFromReservation shares a reserved port among connections of a device that go to
// different listeners.
func TestDeviceDialsFromReservation(t *testing.T) {
	iwarp.ForgetPeers()
	n, ps := newNIC(), &iwarp.PortSpace{}
	r := reserve(t, ps, "tcp", "127.0.0.1:0")
	d := iwarp.Dialer{Transports: n.transports(), Timeout: patience, PortSpace: ps, LocalAddr: r.Addr(), Offload: iwarp.OffloadRequire}
	var conns []net.Conn
	for range 3 {
		l := listen(t, iwarp.ListenConfig{Transports: n.transports()})
		c, s := meet(t, l, func() net.Conn { return dialBy(t, &d, "tcp", l.Addr().String()) })
		require.Equal(t, "nic", describe(t, c).Transport)
		exchange(t, c, s, "hello")
		conns = append(conns, c)

		_, err := d.Dial("tcp", l.Addr().String())
		require.ErrorIs(t, err, syscall.EADDRINUSE, "the same four-tuple")
		require.Len(t, ps.Reservations(), 1)
		iwarp.ForgetPeers()
	}
	require.Equal(t, 3, ps.Reservations()[0].References)
	require.ErrorIs(t, r.Release(), net.ErrClosed)
	for _, c := range conns {
		require.Len(t, ps.Reservations(), 1)
		require.NoError(t, c.Close())
	}
	require.Empty(t, ps.Reservations())
}

// TestDeviceDialsFromReservationInVain falls back to the kernel's TCP from the very port.
func TestDeviceDialsFromReservationInVain(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("a reservation cannot dial")
	}
	iwarp.ForgetPeers()
	n := newNIC()
	l := listen(t, iwarp.ListenConfig{})
	go echo(l)
	r := reserve(t, nil, "tcp", "127.0.0.1:0")
	d := iwarp.Dialer{Transports: n.transports(), Timeout: patience, LocalAddr: r.Addr()}
	c, err := d.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	require.Equal(t, "tcp", describe(t, c).Transport)
	require.Equal(t, r.Addr().String(), c.LocalAddr().String())
	require.NotEmpty(t, n.locals, "the device was asked")
	exchangeWithEcho(t, c, "hello")
}

// pickyNIC has ports in use that nobody else knows of.
type pickyNIC struct {
	*nic
	refusals int
}

func (p *pickyNIC) Dial(ctx context.Context, local, remote netip.AddrPort, o *transport.Options) (transport.Connector, error) {
	if p.refusals--; p.refusals >= 0 {
		p.locals = append(p.locals, local)
		return nil, os.NewSyscallError("bind", syscall.EADDRINUSE)
	}
	return p.nic.Dial(ctx, local, remote, o)
}

// TestDevicePortTakenByDial tries other ports when the device refuses one, but not for ever.
func TestDevicePortTakenByDial(t *testing.T) {
	for refusals, ok := range map[int]bool{1: true, 7: true, 8: false} {
		iwarp.ForgetPeers()
		p := &pickyNIC{newNIC(), refusals}
		ps := &iwarp.PortSpace{}
		l := listen(t, iwarp.ListenConfig{Transports: p.transports()})
		acceptEach(t, l)
		d := iwarp.Dialer{Transports: []transport.Transport{p}, Timeout: patience, PortSpace: ps}
		c, err := d.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		defer c.Close()
		seen := make(map[netip.AddrPort]bool)
		for _, a := range p.locals {
			require.False(t, seen[a], "each try has another port")
			seen[a] = true
		}
		if ok {
			require.Equal(t, "nic", describe(t, c).Transport)
			require.Len(t, seen, refusals+1)
			require.Len(t, ps.Reservations(), 1, "the ports of the other tries are given back")
			continue
		}
		require.Equal(t, iwarp.ReasonPortConflict, describe(t, c).Reason)
		require.Len(t, seen, refusals)
		require.Empty(t, ps.Reservations())
	}
}

// sharingNIC cannot use some ports to get to one place, as after connections that are in TIME_WAIT.
type sharingNIC struct {
	*nic
	remote netip.AddrPort
	used   map[netip.AddrPort]bool
}

func (s *sharingNIC) Dial(ctx context.Context, local, remote netip.AddrPort, o *transport.Options) (transport.Connector, error) {
	c, err := s.nic.Dial(ctx, local, remote, o)
	if err == nil && remote == s.remote && s.used[local] {
		_ = c.Close()
		return nil, os.NewSyscallError("connect", syscall.EADDRNOTAVAIL)
	}
	return c, err
}

// TestDevicePortInTimeWait takes a port that is not shared once a shared one is of no use, as there
// may be many of those.
func TestDevicePortInTimeWait(t *testing.T) {
	iwarp.ForgetPeers()
	s := &sharingNIC{nic: newNIC(), used: make(map[netip.AddrPort]bool)}
	elsewhere, l := listen(t, iwarp.ListenConfig{Transports: s.transports()}), listen(t, iwarp.ListenConfig{Transports: s.transports()})
	acceptEach(t, elsewhere)
	acceptEach(t, l)
	s.remote = infoAddr(l)
	ps := &iwarp.PortSpace{}
	d := iwarp.Dialer{Transports: []transport.Transport{s}, Timeout: patience, PortSpace: ps, Offload: iwarp.OffloadRequire}
	for range 20 {
		c, err := d.Dial("tcp", elsewhere.Addr().String())
		require.NoError(t, err)
		defer c.Close()
	}
	for _, local := range s.locals {
		s.used[local] = true
	}
	s.locals = nil
	c, err := d.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	require.Len(t, s.locals, 2)
	require.True(t, s.used[s.locals[0]])
	require.False(t, s.used[s.locals[1]])
	require.Len(t, ps.Reservations(), 21)
}
