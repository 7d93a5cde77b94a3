package ports_test

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
)

// TestPortSetMemberEnds has users of members close what they made of them.
func TestPortSetMemberEnds(t *testing.T) {
	if !inNamespace(t) { // where no other connection has left a port in TIME_WAIT
		return
	}
	peer, err := net.Listen("tcp4", "127.0.0.3:0")
	require.NoError(t, err)
	defer peer.Close()
	uses := map[string]func(*iwarp.PortSpace, *iwarp.Reservation) error{
		"release": func(_ *iwarp.PortSpace, r *iwarp.Reservation) error { return r.Release() },
		"listen": func(_ *iwarp.PortSpace, r *iwarp.Reservation) error {
			l, err := r.Listen()
			require.NoError(t, err)
			return l.Close()
		},
		"dial": func(_ *iwarp.PortSpace, r *iwarp.Reservation) error {
			c, err := r.DialContext(t.Context(), "tcp4", peer.Addr().String())
			require.NoError(t, err)
			require.NoError(t, c.SetLinger(0))
			return c.Close()
		},
	}
	for _, policy := range policies {
		uses["listen "+policy.String()] = func(ps *iwarp.PortSpace, r *iwarp.Reservation) error {
			lc := iwarp.ListenConfig{PortSpace: ps, Offload: policy}
			l, err := lc.Listen(t.Context(), "tcp", r.Addr().String())
			require.NoError(t, err)
			return l.Close()
		}
	}
	for name, use := range uses {
		t.Run(name, func(t *testing.T) {
			ps := &iwarp.PortSpace{}
			s, err := ps.ReserveEach(t.Context(), 0, addr("127.0.0.1"), addr("127.0.0.2"))
			require.NoError(t, err)
			defer s.Release()
			first := s.Members()[0]
			require.NoError(t, use(ps, first))
			require.Equal(t, map[netip.Addr]bool{addr("127.0.0.2"): true}, addrsOf(s), "it leaves")
			again, err := s.Extend(t.Context(), addr("127.0.0.1"))
			require.NoError(t, err)
			require.NotSame(t, first, again)
			require.ErrorIs(t, thief(t, again.Addr()), syscall.EADDRINUSE, "the port is held again")
			l, err := again.Listen()
			require.NoError(t, err)
			require.Len(t, s.Members(), 2, "a member that listens stays")
			require.NoError(t, l.Close())
		})
	}
}

// TestPortSetAddressTwice counts an address once, however it is written and covered.
func TestPortSetAddressTwice(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	interfaces(t)
	ip(t, "addr add fe80::5/64 dev eth8 nodad")
	ip(t, "addr add fe80::5/64 dev eth9 nodad")
	ifi, err := net.InterfaceByName("eth8")
	require.NoError(t, err)
	byNumber := "fe80::5%" + strconv.Itoa(ifi.Index)
	for _, test := range []struct{ addrs, members string }{
		{"127.0.0.1 127.0.0.1", "127.0.0.1"},
		{"127.0.0.1 ::ffff:127.0.0.1", "127.0.0.1"},
		{"::ffff:127.0.0.1 127.0.0.1", "127.0.0.1"},
		{"fe80::5%eth8 " + byNumber, "fe80::5%eth8"},
		{byNumber + " fe80::5%eth8", "fe80::5%eth8"},
		{"fe80::5%eth8 fe80::5%eth9", "fe80::5%eth8 fe80::5%eth9"},
		{"::1 ::1%lo", "::1"},
		{"127.0.0.1 0.0.0.0 127.0.0.2", "0.0.0.0"},
		{"0.0.0.0 127.0.0.1", "0.0.0.0"},
		{"0.0.0.0 ::", "0.0.0.0 ::"},
		{"::1 :: 127.0.0.1", ":: 127.0.0.1"},
		{"127.0.0.1 ::1", "127.0.0.1 ::1"},
	} {
		t.Run(test.addrs, func(t *testing.T) {
			var addrs []netip.Addr
			for _, a := range strings.Fields(test.addrs) {
				addrs = append(addrs, addr(a))
			}
			wanted := make(map[netip.Addr]bool)
			for _, a := range strings.Fields(test.members) {
				wanted[addr(a)] = true
			}
			ps := &iwarp.PortSpace{}
			s, err := ps.ReserveEach(t.Context(), 0, addrs...)
			require.NoError(t, err)
			require.Equal(t, wanted, addrsOf(s))
			for _, a := range addrs {
				_, err := s.Extend(t.Context(), a)
				require.NoError(t, err, a)
			}
			require.Equal(t, wanted, addrsOf(s))
			require.NoError(t, s.Release())
			require.Empty(t, ps.Reservations())

			s, err = ps.ReserveEach(t.Context(), 0, addrs[0])
			require.NoError(t, err)
			for _, a := range addrs {
				_, err := s.Extend(t.Context(), a)
				if err != nil {
					require.True(t, a.IsUnspecified(), "%v after %v: %v", a, addrs[0], err)
					require.ErrorIs(t, err, syscall.EADDRINUSE)
				}
			}
			require.Empty(t, s.Conflicts(), "nobody else has it")
			require.NoError(t, s.Release())
		})
	}
}

// TestPortSetExtendAtOnce has several goroutines want the same address.
func TestPortSetExtendAtOnce(t *testing.T) {
	if !inNamespace(t) { // where no other connection has left a port in TIME_WAIT
		return
	}
	for range 200 {
		ps := &iwarp.PortSpace{}
		s, err := ps.ReserveEach(t.Context(), 0, addr("127.0.0.1"))
		require.NoError(t, err)
		var wg sync.WaitGroup
		start := make(chan struct{})
		got := make(chan *iwarp.Reservation, 4)
		for i := range cap(got) {
			wg.Go(func() {
				<-start
				r, err := s.Extend(t.Context(), addr([]string{"127.0.0.2", "::ffff:127.0.0.2"}[i%2]))
				if err != nil {
					t.Error(err)
				}
				got <- r
			})
		}
		close(start)
		wg.Wait()
		close(got)
		for r := range got {
			require.Same(t, s.Members()[1], r)
		}
		require.Len(t, s.Members(), 2)
		require.Empty(t, s.Conflicts())
		require.Len(t, ps.Reservations(), 2)
		require.NoError(t, s.Release())
	}
}

// TestPortSetExtendCanceled does not wait for another Extend longer than it may, and ends with the
// set.
func TestPortSetExtendCanceled(t *testing.T) {
	if !inNamespace(t) { // where no other connection has left a port in TIME_WAIT
		return
	}
	inside, goOn := make(chan struct{}), make(chan struct{})
	ps := &iwarp.PortSpace{Control: func(_, address string, _ syscall.RawConn) error {
		if strings.HasPrefix(address, "127.0.0.2:") {
			inside <- struct{}{}
			<-goOn
		}
		return nil
	}}
	s, err := ps.ReserveEach(t.Context(), 0, addr("127.0.0.1"))
	require.NoError(t, err)
	slow := make(chan error, 1)
	go func() {
		_, err := s.Extend(t.Context(), addr("127.0.0.2"))
		slow <- err
	}()
	<-inside
	_, err = s.Extend(canceled(), addr("127.0.0.2"))
	require.ErrorContains(t, err, "operation was canceled")
	require.Len(t, s.Members(), 1, "nothing else has to wait for it")
	require.NoError(t, s.Release())
	close(goOn)
	require.ErrorIs(t, <-slow, net.ErrClosed)
	require.Empty(t, ps.Reservations())
}

// TestPortSetAddressComesBack takes an address away from under a member that listens, and gives it
// back; and has one that cannot be taken at once tried again.
func TestPortSetAddressComesBack(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	interfaces(t)
	var granted atomic.Bool
	ps := &iwarp.PortSpace{Control: func(_, address string, _ syscall.RawConn) error {
		if strings.HasPrefix(address, "198.51.100.7:") && !granted.Load() {
			return syscall.EMFILE
		}
		return nil
	}}
	s, err := ps.ReserveEach(t.Context(), 0)
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- s.Follow(t.Context()) }()
	const back = "192.0.2.1"
	has := func(a string) func() bool { return func() bool { return addrsOf(s)[addr(a)] } }
	lc := iwarp.ListenConfig{PortSpace: ps}
	address := net.JoinHostPort(back, strconv.Itoa(int(s.Port())))
	serves := func(l net.Listener) {
		t.Helper()
		c, err := net.DialTimeout("tcp", address, patience)
		require.NoError(t, err)
		_, err = c.Write([]byte("hello"))
		require.NoError(t, err)
		accepted, err := l.Accept()
		require.NoError(t, err)
		require.NoError(t, accepted.(*net.TCPConn).SetLinger(0))
		require.NoError(t, accepted.Close())
		require.NoError(t, c.Close())
	}
	l, err := lc.Listen(t.Context(), "tcp", address)
	require.NoError(t, err)
	serves(l)
	ip(t, "addr del "+back+"/24 dev eth8")
	ip(t, "addr add 198.51.100.7/24 dev eth9") // which is seen later
	eventually(t, func() bool { return s.Conflicts()[addr("198.51.100.7")] != nil }, "a failure that is told")
	require.ErrorIs(t, s.Conflicts()[addr("198.51.100.7")], syscall.EMFILE)
	granted.Store(true)
	ip(t, "addr add "+back+"/24 dev eth8")
	serves(l)
	require.True(t, has(back)())
	eventually(t, has("198.51.100.7"), "another try")
	require.Empty(t, s.Conflicts())

	// The listener ends while the address is away, and the port is taken when it comes back.
	ip(t, "addr del "+back+"/24 dev eth8")
	require.NoError(t, l.Close())
	eventually(t, func() bool { return !has(back)() }, "the member")
	ip(t, "addr add "+back+"/24 dev eth8")
	eventually(t, has(back), "the address")
	l, err = lc.Listen(t.Context(), "tcp", address)
	require.NoError(t, err)
	serves(l)
	require.NoError(t, l.Close())
	require.NoError(t, s.Release())
	require.NoError(t, <-done)
}
