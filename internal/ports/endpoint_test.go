package ports

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var (
	ownAddr   = netip.MustParseAddr("127.0.0.1")
	noAddress netip.AddrPort
)

// hold takes a share for a connection of a device that has ownAddr.
func hold(t testing.TB, sp *Space, local, remote netip.AddrPort, fresh bool) (*Endpoint, error) {
	t.Helper()
	return sp.Hold(t.Context(), local, remote, "nic0", []netip.Addr{ownAddr}, fresh, nil)
}

func peerNumber(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(n)}), uint16(1000+n>>8))
}

func sockets(sp *Space) int { return len(sp.Reservations()) }

func isFree(t testing.TB, a net.Addr) bool {
	t.Helper()
	l, err := net.Listen("tcp", a.String())
	if err == nil {
		require.NoError(t, l.Close())
	}
	return err == nil
}

// TestHoldMakesOneSocket binds a port for a device's connection at the first go: the socket will
// never connect, so it need not be bound by number.
func TestHoldMakesOneSocket(t *testing.T) {
	for _, fresh := range []bool{false, true} {
		sp, made := &Space{}, 0
		count := func(string, string, syscall.RawConn) error {
			made++
			return nil
		}
		e, err := sp.Hold(t.Context(), noAddress, peerNumber(1), "nic0", []netip.Addr{ownAddr}, fresh, count)
		require.NoError(t, err)
		require.Equal(t, 1, made, "sockets")
		addr := net.TCPAddrFromAddrPort(e.AddrPort())
		require.NotZero(t, addr.Port)
		require.False(t, isFree(t, addr))
		e.Keep(nil)
		e.Leave(false)
		require.True(t, isFree(t, addr))
	}
}

// TestSharedPortsNeedFewSockets has connections of a device share ports: 20,000 of them to 200
// destinations need 100 sockets, as no more than 100 go to the same one.
func TestSharedPortsNeedFewSockets(t *testing.T) {
	const destinations, each = 200, 100
	sp := &Space{}
	tuples := make(map[[2]netip.AddrPort]bool)
	var all []*Endpoint
	for range each {
		for n := range destinations {
			e, err := hold(t, sp, noAddress, peerNumber(n), false)
			require.NoError(t, err)
			tuple := [2]netip.AddrPort{e.port.AddrPort(), e.remote}
			require.False(t, tuples[tuple], "two connections with the same four-tuple")
			tuples[tuple] = true
			all = append(all, e)
		}
	}
	require.Len(t, all, 20000)
	require.Equal(t, each, sockets(sp))
	info := sp.Reservations()[0]
	require.Equal(t, Info{Addr: info.Addr, State: Connected, Owner: "nic0", References: destinations}, info)

	for i, e := range all {
		require.False(t, i%1000 == 0 && isFree(t, e.port.Addr()), "in use")
		e.Leave(false)
		e.Leave(false) // twice does no harm
	}
	require.Zero(t, sockets(sp))
	require.True(t, isFree(t, all[0].port.Addr()))
	require.Empty(t, sp.sharedPorts(ownAddr, peerNumber(0)).slots)
	require.Empty(t, sp.sharedPorts(ownAddr, peerNumber(0)).remotes)
}

// TestSharedPortsAreForgotten leaves nothing behind of a local address once it has no ports.
func TestSharedPortsAreForgotten(t *testing.T) {
	sp := &Space{}
	refuse := func(string, string, syscall.RawConn) error { return syscall.EPERM }
	for n := range 3 {
		own := []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, byte(1 + n)})}
		e, err := sp.Hold(t.Context(), noAddress, peerNumber(1), "nic0", own, false, nil)
		require.NoError(t, err)
		_, err = sp.Hold(t.Context(), noAddress, peerNumber(1), "nic0", own, false, refuse)
		require.ErrorIs(t, err, syscall.EPERM)
		require.Len(t, sp.shared, 1)
		e.Leave(false)
		require.Empty(t, sp.shared)
		_, err = sp.Hold(t.Context(), noAddress, peerNumber(1), "nic0", own, false, refuse)
		require.ErrorIs(t, err, syscall.EPERM)
		require.Empty(t, sp.shared)
	}
	e, err := hold(t, sp, noAddress, peerNumber(1), false)
	require.NoError(t, err)
	e.Leave(true)
	require.Eventually(t, func() bool {
		sp.mu.Lock()
		defer sp.mu.Unlock()
		return len(sp.shared) == 0
	}, 20*time.Second, time.Millisecond, "the port was kept for a while")
}

// TestSharedPortsGivePortsBack keeps the lowest ports in use, so that others can go.
func TestSharedPortsGivePortsBack(t *testing.T) {
	sp := &Space{}
	var list []*Endpoint
	for range 10 {
		e, err := hold(t, sp, noAddress, peerNumber(1), false)
		require.NoError(t, err)
		list = append(list, e)
	}
	require.Equal(t, 10, sockets(sp))
	list[3].Leave(false)
	require.Equal(t, 9, sockets(sp))
	list[9].Leave(false)
	require.Equal(t, 8, sockets(sp))
	e, err := hold(t, sp, noAddress, peerNumber(1), false)
	require.NoError(t, err)
	require.Same(t, e.port, sp.sharedPorts(ownAddr, peerNumber(1)).slots[3])
	other, err := hold(t, sp, noAddress, peerNumber(2), false)
	require.NoError(t, err)
	require.Same(t, list[0].port, other.port, "another destination can have a port that is there")
	list[3] = e
	for _, e := range append(list[:9], other) {
		e.Leave(false)
	}
	require.Zero(t, sockets(sp))
}

func TestSharedPortsAtOnce(t *testing.T) {
	sp := &Space{}
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			for i := range 200 {
				e, err := hold(t, sp, noAddress, peerNumber((g+i)%4), false)
				if err != nil {
					t.Error(err)
					return
				}
				if !e.port.holds() {
					t.Error("the port of a live connection is not held")
				}
				e.Leave(false)
			}
		})
	}
	wg.Wait()
	require.Zero(t, sockets(sp))
}

// TestHoldSharesReservation counts the connections of a device on a port that was chosen by its
// user.
func TestHoldSharesReservation(t *testing.T) {
	sp := &Space{}
	r, err := sp.Reserve(t.Context(), "tcp", "127.0.0.1:0", nil)
	require.NoError(t, err)
	local := r.AddrPort()

	// A connection that does not come about leaves the reservation as it was.
	e, err := hold(t, sp, local, peerNumber(1), false)
	require.NoError(t, err)
	require.Same(t, r, e.port)
	_, err = r.Listen(nil, false)
	require.ErrorIs(t, err, syscall.EADDRINUSE, "the port is used")
	e.Leave(false)
	require.Equal(t, Idle, sp.Reservations()[0].State)

	a, err := hold(t, sp, local, peerNumber(1), false)
	require.NoError(t, err)
	a.Keep(nil)
	require.ErrorIs(t, r.Release(), net.ErrClosed, "the port belongs to the connection")
	_, err = hold(t, sp, local, peerNumber(1), false)
	require.ErrorIs(t, err, syscall.EADDRINUSE, "the same four-tuple")
	b, err := hold(t, sp, local, peerNumber(2), false)
	require.NoError(t, err)
	b.Keep(nil)
	require.Equal(t, 2, sp.Reservations()[0].References)
	a.Leave(false)
	require.False(t, isFree(t, r.Addr()))
	_, err = r.Listen(nil, false)
	require.ErrorIs(t, err, net.ErrClosed)
	b.Leave(false)
	require.True(t, isFree(t, r.Addr()))
	require.Zero(t, sockets(sp))

	// A port that nobody reserved before is shared all the same.
	a, err = hold(t, sp, local, peerNumber(1), false)
	require.NoError(t, err)
	b, err = hold(t, sp, local, peerNumber(2), false)
	require.NoError(t, err)
	require.Same(t, a.port, b.port)
	from, err := sp.ToDial("tcp", r.Addr(), nil)
	require.NoError(t, err)
	require.Nil(t, from, "it is not for others to listen on or dial from")
	a.Leave(false)
	require.False(t, isFree(t, r.Addr()))
	b.Leave(false)
	require.True(t, isFree(t, r.Addr()))

	// Released under a connection, the port stays until that has gone.
	r, err = sp.Reserve(t.Context(), "tcp", "127.0.0.1:0", nil)
	require.NoError(t, err)
	e, err = hold(t, sp, r.AddrPort(), peerNumber(1), false)
	require.NoError(t, err)
	require.NoError(t, r.Release())
	require.False(t, isFree(t, r.Addr()))
	e.Leave(false)
	require.True(t, isFree(t, r.Addr()))
}

// TestControlHoldsUpNobody has a Control function take its time, and hold another port meanwhile.
// Who wants the same port waits for as long as there is time.
func TestControlHoldsUpNobody(t *testing.T) {
	port := func(t *testing.T) netip.AddrPort {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer l.Close()
		return l.Addr().(*net.TCPAddr).AddrPort()
	}
	sp, slow, other, inner := &Space{}, port(t), port(t), port(t)
	began, goOn := make(chan struct{}), make(chan struct{})
	var first, second *Endpoint
	ended := make(chan error, 1)
	go func() {
		var err error
		first, err = sp.Hold(t.Context(), slow, peerNumber(1), "nic0", []netip.Addr{ownAddr}, false, func(string, string, syscall.RawConn) error {
			close(began)
			<-goOn
			e, err := hold(t, sp, inner, peerNumber(1), false)
			if err == nil {
				e.Leave(false)
			}
			return err
		})
		ended <- err
	}()
	<-began
	e, err := hold(t, sp, other, peerNumber(2), false)
	require.NoError(t, err)
	e.Leave(false)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = sp.Hold(ctx, slow, peerNumber(2), "nic0", []netip.Addr{ownAddr}, false, nil)
	require.ErrorIs(t, err, context.Canceled)
	waits := make(chan error, 1)
	go func() {
		var err error
		second, err = hold(t, sp, slow, peerNumber(2), false)
		waits <- err
	}()
	close(goOn)
	require.NoError(t, <-ended)
	require.NoError(t, <-waits)
	require.Same(t, first.port, second.port)
	require.Empty(t, sp.holding)
	first.Keep(nil)
	first.Leave(false)
	second.Leave(false)
	require.True(t, isFree(t, net.TCPAddrFromAddrPort(slow)))
}

// TestHoldFails leaves nothing behind when a port cannot be had, or the user's function panics.
func TestHoldFails(t *testing.T) {
	errControl := errors.New("error of the test")
	for name, control := range map[string]func(string, string, syscall.RawConn) error{
		"error": func(string, string, syscall.RawConn) error { return errControl },
		"panic": func(string, string, syscall.RawConn) error { panic(errControl) },
	} {
		sp := &Space{}
		for _, local := range []netip.AddrPort{noAddress, netip.MustParseAddrPort("127.0.0.1:45678")} {
			func() {
				defer func() {
					if name == "panic" {
						require.Equal(t, errControl, recover())
					}
				}()
				_, err := sp.Hold(t.Context(), local, peerNumber(1), "nic0", []netip.Addr{ownAddr}, false, control)
				require.ErrorIs(t, err, errControl)
			}()
		}
		require.Zero(t, sockets(sp))
		e, err := hold(t, sp, noAddress, peerNumber(1), false)
		require.NoError(t, err)
		require.Same(t, e.port, sp.sharedPorts(ownAddr, peerNumber(1)).slots[0], "the place of the one that failed is free")
		e.Leave(false)
	}
}

// TestHoldFresh takes a port that is shared with nobody.
func TestHoldFresh(t *testing.T) {
	sp := &Space{}
	shared, err := hold(t, sp, noAddress, peerNumber(1), false)
	require.NoError(t, err)
	fresh, err := hold(t, sp, noAddress, peerNumber(2), true)
	require.NoError(t, err)
	require.NotEqual(t, shared.port.AddrPort(), fresh.port.AddrPort())
	other, err := hold(t, sp, noAddress, peerNumber(3), false)
	require.NoError(t, err)
	require.Same(t, shared.port, other.port)
	for _, e := range []*Endpoint{shared, fresh, other} {
		e.Leave(false)
	}
	require.Zero(t, sockets(sp))
}

// TestPortIsKept has the next connection to the same remote have the port of one that both ends are
// done with, and gives it back to whoever asks for it, where descriptors are short, and in the end.
func TestPortIsKept(t *testing.T) {
	sp := &Space{}
	made := 0
	count := func(string, string, syscall.RawConn) error {
		made++
		return nil
	}
	next := func() *Endpoint {
		e, err := sp.Hold(t.Context(), noAddress, peerNumber(1), "nic0", []netip.Addr{ownAddr}, false, count)
		require.NoError(t, err)
		e.Keep(nil)
		return e
	}
	stop := func() { // no sweep until the test wants one
		sp.mu.Lock()
		defer sp.mu.Unlock()
		sp.kept.armed = true
		if sp.kept.timer != nil {
			sp.kept.timer.Stop()
		}
	}
	stop()
	first := next()
	port := first.AddrPort()
	for range 3 {
		first.Leave(true)
		require.False(t, isFree(t, net.TCPAddrFromAddrPort(port)))
		require.Equal(t, Info{Addr: port, Owner: "nic0"}, sp.Reservations()[0])
		first = next()
		require.Equal(t, port, first.AddrPort())
	}
	require.Equal(t, 1, made, "sockets")
	second := next()
	require.NotEqual(t, port, second.AddrPort(), "the same four-tuple")
	second.Leave(false)
	require.Equal(t, 1, sockets(sp))

	sp.forget(0)
	require.False(t, isFree(t, net.TCPAddrFromAddrPort(port)), "a connection has it")
	first.Leave(false)
	require.Zero(t, sockets(sp))

	addr := func() string {
		e := next()
		e.Leave(true)
		return e.AddrPort().String()
	}
	r, err := sp.Reserve(t.Context(), "tcp", addr(), nil)
	require.NoError(t, err)
	require.NoError(t, r.Release())
	l, r, err := sp.Listen(t.Context(), "tcp", addr(), nil)
	require.NoError(t, err)
	require.NoError(t, l.Close())
	_ = r.Unlisten(l)
	local, err := net.ResolveTCPAddr("tcp", addr())
	require.NoError(t, err)
	r, err = sp.ToDial("tcp", local, nil)
	require.NoError(t, err)
	require.Nil(t, r)
	require.True(t, isFree(t, local))
	require.Zero(t, sockets(sp))

	addr()
	lacks := func(string, string, syscall.RawConn) error {
		if made++; made == 1 {
			return syscall.EMFILE
		}
		return nil
	}
	made = 0
	r, err = sp.Reserve(t.Context(), "tcp", "127.0.0.1:0", lacks)
	require.NoError(t, err)
	require.Equal(t, 1, sockets(sp), "what was kept is given back where descriptors are short")
	require.NoError(t, r.Release())

	addr()
	sp.mu.Lock()
	sp.kept.armed = false
	sp.kept.arm(sp)
	sp.mu.Unlock()
	p := sp.sharedPorts(ownAddr, peerNumber(0))
	require.Eventually(t, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return sockets(sp)+len(p.slots) == 0
	}, 10*time.Second, time.Millisecond)
}

// TestFewPortsAreKept bounds the ports that nobody uses.
func TestFewPortsAreKept(t *testing.T) {
	sp := &Space{}
	var all []*Endpoint
	for range mostPorts + 1 {
		e, err := hold(t, sp, noAddress, peerNumber(1), false)
		require.NoError(t, err)
		all = append(all, e)
	}
	for _, e := range all {
		e.Leave(true)
	}
	require.LessOrEqual(t, sockets(sp), mostPorts)
	sp.forget(0)
	require.Zero(t, sockets(sp))
}

// TestPortIsNotKept has no connection to the same remote have the port of one that the peer may
// still have, whatever was kept before and whoever else shares the port.
func TestPortIsNotKept(t *testing.T) {
	for name, shared := range map[string]bool{"alone": false, "shared": true} {
		t.Run(name, func(t *testing.T) {
			sp := &Space{}
			next := func(remote int) *Endpoint {
				e, err := hold(t, sp, noAddress, peerNumber(remote), false)
				require.NoError(t, err)
				e.Keep(func() bool { return false })
				return e
			}
			first := next(1)
			if shared {
				other := next(2)
				require.Same(t, first.port, other.port)
				defer other.Leave(false)
			}
			first.Leave(true)
			second := next(1)
			require.Same(t, first.port, second.port)
			second.Leave(false)
			third := next(1)
			require.NotSame(t, second.port, third.port)
			third.Leave(false)
		})
	}
}
