package ports_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp"
)

// interfaces gives the test's namespace three interfaces with addresses of their own: pairs of
// virtual Ethernets.
func interfaces(t testing.TB) {
	for _, i := range []string{"8", "9", "10"} {
		ip(t, "link add eth"+i+" type veth peer name peer"+i)
	}
	for _, a := range []string{"192.0.2.1/24 dev eth8", "2001:db8::1/64 dev eth8 nodad", "198.51.100.1/24 dev eth9", "203.0.113.1/24 dev eth10"} {
		ip(t, "addr add "+a)
	}
	for _, i := range []string{"8", "9", "10"} {
		ip(t, "link set eth"+i+" up")
		ip(t, "link set peer"+i+" up")
	}
}

func addrsOf(s *iwarp.PortSet) map[netip.Addr]bool {
	list := make(map[netip.Addr]bool)
	for _, r := range s.Members() {
		list[r.Addr().(*net.TCPAddr).AddrPort().Addr().Unmap()] = true
	}
	return list
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// TestReserveEach takes one port on interfaces that have their sockets each.
func TestReserveEach(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	interfaces(t)
	ps := &iwarp.PortSpace{}
	other := startAgent(t, 0)
	require.NoError(t, reserve(t, ps, "tcp", ":0").Release())
	before := openFiles(t)

	t.Run("all addresses", func(t *testing.T) {
		s, err := ps.ReserveEach(t.Context(), 0)
		require.NoError(t, err)
		for _, a := range []string{"127.0.0.1", "::1", "192.0.2.1", "2001:db8::1", "198.51.100.1", "203.0.113.1"} {
			require.Contains(t, addrsOf(s), addr(a))
			_, err := other.Do(order{Addr: a, Port: int(s.Port()), ReuseAddr: true})
			require.ErrorIs(t, err, unix.EADDRINUSE, a)
		}
		_, err = other.Do(order{Addr: "0.0.0.0", Port: int(s.Port()), ReuseAddr: true})
		require.ErrorIs(t, err, unix.EADDRINUSE)
		_, err = other.Do(order{Addr: "127.0.0.9", Port: int(s.Port())})
		require.NoError(t, err, "an address of no interface is nobody's")
		other.Forget()
		require.NoError(t, s.Release())
		require.ErrorIs(t, s.Release(), net.ErrClosed)
		_, err = other.Do(order{Addr: "::", Port: int(s.Port())})
		require.NoError(t, err, "all is given back")
		other.Forget()
		require.Empty(t, ps.Reservations())
	})
	t.Run("zone", func(t *testing.T) {
		ifi, err := net.InterfaceByName("eth10")
		require.NoError(t, err)
		var local netip.Addr
		eventually(t, func() bool {
			addrs, err := ifi.Addrs()
			require.NoError(t, err)
			for _, a := range addrs {
				if p := netip.MustParsePrefix(a.String()); p.Addr().IsLinkLocalUnicast() && p.Addr().Is6() {
					local = p.Addr().WithZone("eth10")
				}
			}
			if !local.IsValid() {
				return false
			}
			r, err := ps.Reserve(t.Context(), "tcp", netip.AddrPortFrom(local, 0).String())
			if errors.Is(err, syscall.EADDRNOTAVAIL) {
				return false // duplicate address detection
			}
			require.NoError(t, err)
			require.Equal(t, "eth10", r.Addr().(*net.TCPAddr).Zone)
			require.NoError(t, r.Release())
			return true
		}, "a link-local address")
		s, err := ps.ReserveEach(t.Context(), 0, local, addr("192.0.2.1"))
		require.NoError(t, err)
		require.Contains(t, addrsOf(s), local)
		require.NoError(t, s.Release())
	})
	t.Run("members", func(t *testing.T) {
		s, err := ps.ReserveEach(t.Context(), 0, addr("192.0.2.1"), addr("2001:db8::1"))
		require.NoError(t, err)
		defer s.Release()
		require.Len(t, s.Members(), 2)
		r, err := s.Extend(t.Context(), addr("198.51.100.1"))
		require.NoError(t, err)
		require.EqualValues(t, s.Port(), r.Addr().(*net.TCPAddr).Port)
		again, err := s.Extend(t.Context(), addr("198.51.100.1"))
		require.NoError(t, err)
		require.Same(t, r, again)
		require.NoError(t, r.Release(), "one address alone")
		require.Len(t, s.Members(), 2)

		port, err := other.Do(order{Addr: "198.51.100.1", Port: int(s.Port()), Listen: true})
		require.NoError(t, err)
		_, err = s.Extend(t.Context(), addr("198.51.100.1"))
		require.ErrorIs(t, err, syscall.EADDRINUSE)
		require.ErrorContains(t, err, "pid "+strconv.Itoa(other.PID))
		require.Contains(t, s.Conflicts(), addr("198.51.100.1"))
		require.Len(t, s.Members(), 2, "the others are held on")
		infos := ps.Reservations()
		require.Equal(t, iwarp.PortConflict, infos[1].State)
		require.EqualValues(t, port, infos[1].Addr.Port())
		require.Error(t, infos[1].Err)
		other.Forget()

		lc := iwarp.ListenConfig{PortSpace: ps}
		l, err := lc.Listen(t.Context(), "tcp", s.Members()[0].Addr().String())
		require.NoError(t, err, "a member is a reservation like any other")
		require.NoError(t, l.Close())
	})
	t.Run("one refuses", func(t *testing.T) {
		port, err := other.Do(order{Addr: "198.51.100.1"})
		require.NoError(t, err)
		defer other.Forget()
		_, err = ps.ReserveEach(t.Context(), uint16(port), addr("192.0.2.1"), addr("198.51.100.1"))
		var c *iwarp.ConflictError
		require.ErrorAs(t, err, &c)
		require.Equal(t, addr("198.51.100.1"), c.Addr.Addr())
		require.Empty(t, ps.Reservations(), "what was taken is given back")

		_, err = ps.ReserveEach(t.Context(), uint16(port), addr("192.0.2.99"))
		require.ErrorIs(t, err, syscall.EADDRNOTAVAIL)
		_, err = ps.ReserveEach(canceled(), 0)
		require.ErrorIs(t, err, context.Canceled)
	})
	t.Run("gives up", func(t *testing.T) {
		// The second address refuses each port that the first can give.
		portRange(t, "41000 41003")
		defer portRange(t, "32768 60999")
		for port := 41000; port < 41004; port++ {
			_, err := other.Do(order{Addr: "198.51.100.1", Port: port, Listen: true})
			require.NoError(t, err)
		}
		_, err := ps.ReserveEach(t.Context(), 0, addr("192.0.2.1"), addr("198.51.100.1"))
		op := opError(t, err)
		require.Equal(t, "reserve", op.Op)
		require.ErrorIs(t, err, syscall.EADDRINUSE)
		require.ErrorContains(t, err, "after 16 tries, the last on 198.51.100.1:4100")
		require.ErrorContains(t, err, "pid "+strconv.Itoa(other.PID))

		// It finds the one that is left.
		_, err = other.Do(order{Close: true, Addr: "198.51.100.1", Port: 41000})
		require.NoError(t, err)
		portRange(t, "41000 41001")
		for range 10 {
			s, err := ps.ReserveEach(t.Context(), 0, addr("192.0.2.1"), addr("198.51.100.1"))
			require.NoError(t, err)
			require.EqualValues(t, 41001, s.Port())
			require.NoError(t, s.Release())
		}
		other.Forget()
	})
	require.Equal(t, before, openFiles(t), "no socket is left open")
}

// TestPortSetFollows changes the addresses of the host under a reservation of all of them.
func TestPortSetFollows(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	interfaces(t)
	ps := &iwarp.PortSpace{}
	other := startAgent(t, 0)
	s, err := ps.ReserveEach(t.Context(), 0)
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- s.Follow(t.Context()) }()

	has := func(a string) func() bool { return func() bool { return addrsOf(s)[addr(a)] } }
	ip(t, "addr add 192.0.2.77/24 dev eth9")
	eventually(t, has("192.0.2.77"), "an address that comes")
	ip(t, "addr add 2001:db8::77/64 dev eth9 nodad")
	eventually(t, has("2001:db8::77"), "an IPv6 address that comes")
	_, err = other.Do(order{Addr: "2001:db8::77", Port: int(s.Port()), ReuseAddr: true})
	require.ErrorIs(t, err, unix.EADDRINUSE)
	ip(t, "addr del 192.0.2.77/24 dev eth9")
	eventually(t, func() bool { return !has("192.0.2.77")() }, "an address that goes")
	ip(t, "link del eth9")
	eventually(t, func() bool { return !has("198.51.100.1")() }, "an interface that goes")

	// Another process takes the port first, on an address that only it sees.
	require.NoError(t, os.WriteFile("/proc/sys/net/ipv4/ip_nonlocal_bind", []byte("1"), 0))
	_, err = other.Do(order{Addr: "192.0.2.78", Port: int(s.Port()), Listen: true})
	require.NoError(t, err)
	ip(t, "addr add 192.0.2.78/24 dev eth8")
	eventually(t, func() bool { return s.Conflicts()[addr("192.0.2.78")] != nil }, "a conflict")
	require.ErrorContains(t, s.Conflicts()[addr("192.0.2.78")], "pid "+strconv.Itoa(other.PID))
	require.False(t, has("192.0.2.78")())
	other.Forget()
	eventually(t, has("192.0.2.78"), "the port once the other has let go")
	require.Empty(t, s.Conflicts())

	require.NoError(t, s.Release())
	require.NoError(t, <-done)
	require.Empty(t, ps.Reservations())

	fixed, err := ps.ReserveEach(t.Context(), 0, addr("127.0.0.1"))
	require.NoError(t, err)
	defer fixed.Release()
	require.ErrorIs(t, fixed.Follow(t.Context()), errors.ErrUnsupported)
}
