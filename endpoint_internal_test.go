package iwarp

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport"
)

var (
	nic       = transport.Device{Name: "nic0", OwnPorts: true, Addrs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}
	noAddress netip.AddrPort
)

func peerNumber(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(n)}), uint16(1000+n>>8))
}

func sockets(ps *PortSpace) int { return len(ps.Reservations()) }

func isFree(t testing.TB, a net.Addr) bool {
	t.Helper()
	l, err := net.Listen("tcp", a.String())
	if err == nil {
		require.NoError(t, l.Close())
	}
	return err == nil
}

// TestSharedPortsNeedFewSockets has connections of a device share ports: 20,000 of them to 200
// destinations need 100 sockets, as no more than 100 go to the same one.
func TestSharedPortsNeedFewSockets(t *testing.T) {
	const destinations, each = 200, 100
	ps := &PortSpace{}
	tuples := make(map[[2]netip.AddrPort]bool)
	var all []*endpoint
	for range each {
		for n := range destinations {
			e, err := ps.hold(t.Context(), noAddress, peerNumber(n), nic, false)
			require.NoError(t, err)
			tuple := [2]netip.AddrPort{e.port.addrPort(), e.remote}
			require.False(t, tuples[tuple], "two connections with the same four-tuple")
			tuples[tuple] = true
			all = append(all, e)
		}
	}
	require.Len(t, all, 20000)
	require.Equal(t, each, sockets(ps))
	info := ps.Reservations()[0]
	require.Equal(t, PortInfo{Addr: info.Addr, State: PortConnected, Owner: "nic0", References: destinations}, info)

	for i, e := range all {
		require.False(t, i%1000 == 0 && isFree(t, e.port.Addr()), "in use")
		e.leave()
		e.leave() // twice does no harm
	}
	require.Zero(t, sockets(ps))
	require.True(t, isFree(t, all[0].port.Addr()))
	require.Empty(t, ps.sharedPorts(nic.Addrs[0], peerNumber(0)).slots)
	require.Empty(t, ps.sharedPorts(nic.Addrs[0], peerNumber(0)).remotes)
}

// TestSharedPortsGivePortsBack keeps the lowest ports in use, so that others can go.
func TestSharedPortsGivePortsBack(t *testing.T) {
	ps := &PortSpace{}
	var list []*endpoint
	for range 10 {
		e, err := ps.hold(t.Context(), noAddress, peerNumber(1), nic, false)
		require.NoError(t, err)
		list = append(list, e)
	}
	require.Equal(t, 10, sockets(ps))
	list[3].leave()
	require.Equal(t, 9, sockets(ps))
	list[9].leave()
	require.Equal(t, 8, sockets(ps))
	e, err := ps.hold(t.Context(), noAddress, peerNumber(1), nic, false)
	require.NoError(t, err)
	require.Same(t, e.port, ps.sharedPorts(nic.Addrs[0], peerNumber(1)).slots[3])
	other, err := ps.hold(t.Context(), noAddress, peerNumber(2), nic, false)
	require.NoError(t, err)
	require.Same(t, list[0].port, other.port, "another destination can have a port that is there")
	list[3] = e
	for _, e := range append(list[:9], other) {
		e.leave()
	}
	require.Zero(t, sockets(ps))
}

func TestSharedPortsAtOnce(t *testing.T) {
	ps := &PortSpace{}
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			for i := range 200 {
				e, err := ps.hold(context.Background(), noAddress, peerNumber((g+i)%4), nic, false)
				if err != nil {
					t.Error(err)
					return
				}
				if !e.port.holds() {
					t.Error("the port of a live connection is not held")
				}
				e.leave()
			}
		})
	}
	wg.Wait()
	require.Zero(t, sockets(ps))
}

// TestHoldSharesReservation counts the connections of a device on a port that was chosen by its
// user.
func TestHoldSharesReservation(t *testing.T) {
	ps := &PortSpace{}
	r, err := ps.Reserve(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	local := r.addrPort()

	// A connection that does not come about leaves the reservation as it was.
	e, err := ps.hold(t.Context(), local, peerNumber(1), nic, false)
	require.NoError(t, err)
	require.Same(t, r, e.port)
	_, err = r.Listen()
	require.ErrorIs(t, err, syscall.EADDRINUSE, "the port is used")
	e.leave()
	require.Equal(t, PortIdle, ps.Reservations()[0].State)

	a, err := ps.hold(t.Context(), local, peerNumber(1), nic, false)
	require.NoError(t, err)
	a.keep()
	require.ErrorIs(t, r.Release(), net.ErrClosed, "the port belongs to the connection")
	_, err = ps.hold(t.Context(), local, peerNumber(1), nic, false)
	require.ErrorIs(t, err, syscall.EADDRINUSE, "the same four-tuple")
	b, err := ps.hold(t.Context(), local, peerNumber(2), nic, false)
	require.NoError(t, err)
	b.keep()
	require.Equal(t, 2, ps.Reservations()[0].References)
	a.leave()
	require.False(t, isFree(t, r.Addr()))
	_, err = r.Listen()
	require.ErrorIs(t, err, net.ErrClosed)
	b.leave()
	require.True(t, isFree(t, r.Addr()))
	require.Zero(t, sockets(ps))

	// A port that nobody reserved before is shared all the same.
	a, err = ps.hold(t.Context(), local, peerNumber(1), nic, false)
	require.NoError(t, err)
	b, err = ps.hold(t.Context(), local, peerNumber(2), nic, false)
	require.NoError(t, err)
	require.Same(t, a.port, b.port)
	from, err := ps.toDial("tcp", r.Addr(), nil)
	require.NoError(t, err)
	require.Nil(t, from, "it is not for others to listen on or dial from")
	a.leave()
	require.False(t, isFree(t, r.Addr()))
	b.leave()
	require.True(t, isFree(t, r.Addr()))

	// Released under a connection, the port stays until that has gone.
	r, err = ps.Reserve(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	e, err = ps.hold(t.Context(), r.addrPort(), peerNumber(1), nic, false)
	require.NoError(t, err)
	require.NoError(t, r.Release())
	require.False(t, isFree(t, r.Addr()))
	e.leave()
	require.True(t, isFree(t, r.Addr()))
}

// TestHoldFails leaves nothing behind when a port cannot be had, or the user's function panics.
func TestHoldFails(t *testing.T) {
	errControl := errors.New("error of the test")
	for name, control := range map[string]func(string, string, syscall.RawConn) error{
		"error": func(string, string, syscall.RawConn) error { return errControl },
		"panic": func(string, string, syscall.RawConn) error { panic(errControl) },
	} {
		ps := &PortSpace{Control: control}
		for _, local := range []netip.AddrPort{noAddress, netip.MustParseAddrPort("127.0.0.1:45678")} {
			func() {
				defer func() {
					if name == "panic" {
						require.Equal(t, errControl, recover())
					}
				}()
				_, err := ps.hold(t.Context(), local, peerNumber(1), nic, false)
				require.ErrorIs(t, err, errControl)
			}()
		}
		require.Zero(t, sockets(ps))
		ps.Control = nil
		e, err := ps.hold(t.Context(), noAddress, peerNumber(1), nic, false)
		require.NoError(t, err)
		require.Same(t, e.port, ps.sharedPorts(nic.Addrs[0], peerNumber(1)).slots[0], "the place of the one that failed is free")
		e.leave()
	}
}

// TestPanicInControl keeps the port when the function of a Listen or a dial panics.
func TestPanicInControl(t *testing.T) {
	ps := &PortSpace{}
	r, err := ps.Reserve(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	control := func(string, string, syscall.RawConn) error { panic("of the test") }
	require.Panics(t, func() {
		_, _ = (&ListenConfig{PortSpace: ps, Control: control}).Listen(t.Context(), "tcp", r.Addr().String())
	})
	require.False(t, isFree(t, r.Addr()))
	require.Panics(t, func() {
		d := &Dialer{PortSpace: ps, LocalAddr: r.Addr(), Control: control, Offload: OffloadNever}
		_, _ = d.Dial("tcp", "127.0.0.1:1")
	})
	require.False(t, isFree(t, r.Addr()))
	require.Equal(t, []PortInfo{{Addr: r.addrPort(), References: 1}}, ps.Reservations())
	require.NoError(t, r.Release())
	require.True(t, isFree(t, r.Addr()))
}
