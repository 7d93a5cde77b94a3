package ports_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp"
)

// adopt has the PortSpace adopt sockets of one port that the orders make, and returns that port.
func adopt(t testing.TB, ps *iwarp.PortSpace, orders []order) int {
	t.Helper()
	fds, port := socketsOf(t, orders)
	for _, fd := range fds {
		f := os.NewFile(uintptr(fd), "adopted")
		defer f.Close()
		r, err := ps.Adopt(f)
		require.NoError(t, err)
		t.Cleanup(func() { _ = r.Release() })
	}
	return port
}

// socketsOf looks for a port that is free for all orders: what is left of connections of other
// tests may be in the way of one.
func socketsOf(t testing.TB, orders []order) (fds []int, port int) {
	t.Helper()
	for try := 1; ; try++ {
		fds, port = nil, 0
		var err error
		for _, o := range orders {
			o.Port = port
			var fd int
			if fd, port, err = o.Do(); err != nil {
				break
			}
			fds = append(fds, fd)
		}
		if err == nil {
			return fds, port
		}
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
		if try == 32 || !errors.Is(err, syscall.EADDRINUSE) {
			t.Fatal(err)
		}
	}
}

// reached lists the families by which the port of loopback takes clients.
func reached(t testing.TB, port int) (families string) {
	t.Helper()
	for _, f := range [][2]string{{"4", "127.0.0.1"}, {"6", "::1"}} {
		c, err := net.Dial("tcp", net.JoinHostPort(f[1], strconv.Itoa(port)))
		if err != nil {
			require.ErrorIs(t, err, syscall.ECONNREFUSED)
			continue
		}
		require.NoError(t, c.(*net.TCPConn).SetLinger(0))
		require.NoError(t, c.Close())
		families += f[0]
	}
	return families
}

// TestListenTakesReservationOfFamily has a port held by sockets of either family, as systemd makes
// them, or of both. A listener is one of those that it names, or an error.
func TestListenTakesReservationOfFamily(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	four, six := order{Addr: "0.0.0.0"}, order{Addr: "::", V6Only: true}
	both, one := order{Addr: "::"}, order{Addr: "127.0.0.1"}
	const taken = ""
	for _, test := range []struct {
		held          []order
		network, host string
		reaches       string
	}{
		{[]order{four, six}, "tcp", "0.0.0.0", "4"},
		{[]order{four, six}, "tcp", "::ffff:0.0.0.0", "4"},
		{[]order{four, six}, "tcp4", "0.0.0.0", "4"},
		{[]order{four, six}, "tcp4", "", "4"},
		{[]order{four, six}, "tcp", "::", "6"},
		{[]order{four, six}, "tcp6", "::", "6"},
		{[]order{four, six}, "tcp6", "", "6"},
		{[]order{four, six}, "tcp", "", taken},
		{[]order{four}, "tcp", "", taken},
		{[]order{four}, "tcp6", "", "6"},
		{[]order{six}, "tcp", "", taken},
		{[]order{six}, "tcp4", "", "4"},
		{[]order{both}, "tcp", "", "46"},
		{[]order{both}, "tcp", "0.0.0.0", "46"},
		{[]order{both}, "tcp", "::", "46"},
		{[]order{both}, "tcp4", "", taken},
		{[]order{both}, "tcp6", "", taken},
		{[]order{one}, "tcp", "127.0.0.1", "4"},
		{[]order{one}, "tcp", "::ffff:127.0.0.1", "4"},
		{[]order{one}, "tcp4", "127.0.0.1", "4"},
		{[]order{one}, "tcp", "", taken},
		{[]order{one}, "tcp4", "", taken},
	} {
		for turn := range test.held {
			held := append(test.held[turn:len(test.held):len(test.held)], test.held[:turn]...)
			t.Run(fmt.Sprintf("%v/%s %q", held, test.network, test.host), func(t *testing.T) {
				for _, policy := range policies {
					ps := &iwarp.PortSpace{}
					port := adopt(t, ps, held)
					lc := iwarp.ListenConfig{PortSpace: ps, Offload: policy}
					l, err := lc.Listen(t.Context(), test.network, net.JoinHostPort(test.host, strconv.Itoa(port)))
					if test.reaches == taken {
						require.ErrorIs(t, err, syscall.EADDRINUSE, policy)
						continue
					}
					require.NoError(t, err, policy)
					require.Equal(t, test.reaches, reached(t, port), policy)
					require.NoError(t, l.Close())
				}
			})
		}
	}
}

// TestDialTakesReservationOfFamily has a dial come from the one of two sockets that can reach the
// peer.
func TestDialTakesReservationOfFamily(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	for network, peer := range map[string]string{"tcp4": "127.0.0.1:0", "tcp6": "[::1]:0"} {
		l, err := net.Listen(network, peer)
		require.NoError(t, err)
		defer l.Close()
		for _, held := range [][]order{
			{{Addr: "0.0.0.0"}, {Addr: "::", V6Only: true}}, {{Addr: "::", V6Only: true}, {Addr: "0.0.0.0"}},
		} {
			ps := &iwarp.PortSpace{}
			port := adopt(t, ps, held)
			d := iwarp.Dialer{PortSpace: ps, LocalAddr: &net.TCPAddr{Port: port}, Offload: iwarp.OffloadNever}
			c, err := d.Dial("tcp", l.Addr().String())
			require.NoError(t, err, "%s from %v", network, held)
			require.Equal(t, port, c.LocalAddr().(*net.TCPAddr).Port)
			require.NoError(t, c.(*net.TCPConn).SetLinger(0))
			require.NoError(t, c.Close())
		}
	}
}

// newNetwork makes a network namespace in which only lo is up, and returns what runs a function in
// it.
func newNetwork(t *testing.T) func(func()) {
	t.Helper()
	run := func(prepare func() error, f func()) {
		done := make(chan error, 1)
		go func() {
			defer close(done)
			runtime.LockOSThread() // for good: the thread ends with the goroutine
			err := prepare()
			if err == nil {
				f()
			}
			done <- err
		}()
		require.NoError(t, <-done)
	}
	var ns *os.File
	run(func() error { return unix.Unshare(unix.CLONE_NEWNET) }, func() {
		var err error
		ns, err = os.Open("/proc/thread-self/ns/net")
		require.NoError(t, err)
		lo, err := unix.NewIfreq("lo")
		require.NoError(t, err)
		lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
		s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		require.NoError(t, err)
		defer unix.Close(s)
		require.NoError(t, unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, lo))
	})
	t.Cleanup(func() { _ = ns.Close() })
	return func(f func()) {
		run(func() error { return unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET) }, f)
	}
}

// TestReservationBelongsToNamespace uses one PortSpace in two network namespaces, which have ports
// of their own.
func TestReservationBelongsToNamespace(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	const address = "127.0.0.1:15001"
	dials := func() error {
		c, err := net.Dial("tcp", address)
		if err == nil {
			_ = c.(*net.TCPConn).SetLinger(0)
			_ = c.Close()
		}
		return err
	}
	for _, policy := range policies {
		t.Run(policy.String(), func(t *testing.T) {
			ps := &iwarp.PortSpace{}
			lc := iwarp.ListenConfig{PortSpace: ps, Offload: policy}
			a, b := newNetwork(t), newNetwork(t)
			var r *iwarp.Reservation
			a(func() { r = reserve(t, ps, "tcp", address) })
			b(func() {
				l, err := lc.Listen(t.Context(), "tcp", address)
				require.NoError(t, err)
				require.NoError(t, dials())
				d := iwarp.Dialer{PortSpace: ps, LocalAddr: r.Addr(), Offload: iwarp.OffloadNever}
				_, err = d.Dial("tcp", "127.0.0.1:15002")
				require.ErrorIs(t, err, syscall.EADDRINUSE, "the port of the other one is not to be had here")
				require.NoError(t, l.Close())
			})
			a(func() {
				require.ErrorIs(t, dials(), syscall.ECONNREFUSED)
				l, err := lc.Listen(t.Context(), "tcp", address)
				require.NoError(t, err)
				require.NoError(t, dials())
				require.NoError(t, l.Close())
			})
		})
	}
}

// onDevice is a Control function that binds to the interface, if one is given.
func onDevice(name string) func(string, string, syscall.RawConn) error {
	if name == "" {
		return nil
	}
	return func(_, _ string, c syscall.RawConn) (err error) {
		if cerr := c.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), name) }); cerr != nil {
			return cerr
		}
		return err
	}
}

// TestReservationBelongsToDevice checks that a listener takes only a reservation of its interface.
func TestReservationBelongsToDevice(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	interfaces(t)
	ip(t, "addr add fe80::5/64 dev eth8 nodad")
	ifi, err := net.InterfaceByName("eth8")
	require.NoError(t, err)
	for _, test := range []struct {
		device, host string // of the reservation
		by, at       string // of the listener
		err          error
		ports        int // that are held then
	}{
		{"", "0.0.0.0", "", "0.0.0.0", nil, 1},
		{"eth8", "0.0.0.0", "eth8", "0.0.0.0", nil, 1},
		{"eth8", "0.0.0.0", "eth9", "0.0.0.0", nil, 2},
		{"eth8", "0.0.0.0", "", "0.0.0.0", syscall.EADDRINUSE, 1},
		{"eth8", "127.0.0.1", "", "127.0.0.1", syscall.EADDRINUSE, 1},
		{"", "fe80::5%eth8", "", "fe80::5%eth8", nil, 1},
		{"", "fe80::5%eth8", "", fmt.Sprint("fe80::5%", ifi.Index), nil, 1},
		{"", fmt.Sprint("fe80::5%", ifi.Index), "", "fe80::5%eth8", nil, 1},
	} {
		for _, policy := range policies {
			t.Run(fmt.Sprintf("%s%%%s/%s%%%s/%v", test.host, test.device, test.at, test.by, policy), func(t *testing.T) {
				ps := &iwarp.PortSpace{Control: onDevice(test.device)}
				network := "tcp4"
				if ip := net.ParseIP(test.host); ip == nil {
					network = "tcp6"
				}
				r := reserve(t, ps, network, net.JoinHostPort(test.host, "0"))
				_, port, err := net.SplitHostPort(r.Addr().String())
				require.NoError(t, err)
				lc := iwarp.ListenConfig{PortSpace: ps, Control: onDevice(test.by), Offload: policy}
				l, err := lc.Listen(t.Context(), network, net.JoinHostPort(test.at, port))
				if err == nil {
					defer l.Close()
				}
				require.ErrorIs(t, err, test.err)
				require.Len(t, ps.Reservations(), test.ports)
			})
		}
	}
}

// TestDialBelongsToDevice checks that a dial takes only a reservation of its interface.
func TestDialBelongsToDevice(t *testing.T) {
	for _, policy := range policies {
		t.Run(policy.String(), func(t *testing.T) {
			l := listen(t, iwarp.ListenConfig{Offload: policy})
			go echo(l)
			ps := &iwarp.PortSpace{Control: onDevice("lo")}
			r := reserve(t, ps, "tcp4", "127.0.0.1:0")
			d := iwarp.Dialer{Offload: policy, PortSpace: ps, LocalAddr: r.Addr(), Timeout: patience, HandshakeTimeout: patience}
			_, err := d.Dial("tcp", l.Addr().String())
			require.ErrorIs(t, err, syscall.EADDRINUSE, "it is not to be of one interface")
			d.Control = onDevice("lo")
			c, err := d.Dial("tcp", l.Addr().String())
			require.NoError(t, err)
			defer c.Close()
			require.Equal(t, r.Addr().String(), c.LocalAddr().String())
			exchangeWithEcho(t, c, "hello")
		})
	}
}

// timeWait leaves a connection in TIME_WAIT on the server's side of a port of 127.0.0.1, and
// returns the port. The server is bound to the interface, if one is given.
func timeWait(t testing.TB, device string) int { return timeWaitOn(t, device, "127.0.0.1") }

func timeWaitOn(t testing.TB, device, host string) int {
	t.Helper()
	lc := net.ListenConfig{Control: onDevice(device)}
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(t.Context(), "tcp", net.JoinHostPort(host, "0"))
	require.NoError(t, err)
	defer l.Close()
	c := dialTCP(t, l)
	s, err := l.Accept()
	require.NoError(t, err)
	require.NoError(t, s.Close()) // first
	_, err = c.Read(make([]byte, 1))
	require.Error(t, err)
	require.NoError(t, c.Close())
	return l.Addr().(*net.TCPAddr).Port
}

// TestNoConflictBetweenDevices has another process listen on the port on another interface. It is
// in nobody's way, and it is not named as the holder where somebody is.
func TestNoConflictBetweenDevices(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	interfaces(t)
	port := timeWait(t, "lo")
	there, here := startAgent(t, 0), startAgent(t, 0)
	_, err := there.Do(order{Addr: "0.0.0.0", Port: port, Device: "eth8", Listen: true})
	require.NoError(t, err)
	address := net.JoinHostPort("0.0.0.0", strconv.Itoa(port))
	ps := &iwarp.PortSpace{Control: onDevice("lo")}

	t.Run("reserve", func(t *testing.T) {
		require.NoError(t, reserve(t, ps, "tcp4", address).Release())
	})
	for _, policy := range policies {
		t.Run(policy.String(), func(t *testing.T) {
			lc := iwarp.ListenConfig{PortSpace: ps, Control: onDevice("lo"), Offload: policy}
			l, err := lc.Listen(t.Context(), "tcp4", address)
			require.NoError(t, err)
			require.NoError(t, l.Close())
		})
	}
	t.Run("holder", func(t *testing.T) {
		_, err := here.Do(order{Addr: "0.0.0.0", Port: port, Device: "lo", ReuseAddr: true, Listen: true})
		require.NoError(t, err)
		defer here.Forget()
		_, err = ps.Reserve(t.Context(), "tcp4", address)
		var c *iwarp.ConflictError
		require.ErrorAs(t, err, &c)
		require.Len(t, c.Holders(), 1, "the one that is in the way")
		require.Equal(t, here.PID, c.Holders()[0].PID)
		require.Equal(t, "lo", c.Holders()[0].Device)
		require.ErrorContains(t, err, "listening on "+address+" of device lo by ")

		_, err = (&iwarp.PortSpace{}).Reserve(t.Context(), "tcp4", address)
		require.ErrorAs(t, err, &c)
		require.Len(t, c.Holders(), 2, "both are in the way of all interfaces")
	})
	t.Run("link-local", func(t *testing.T) {
		for _, device := range []string{"eth8", "eth9"} {
			ip(t, "addr add fe80::5/64 dev "+device+" nodad")
		}
		port, err := there.Do(order{Addr: "fe80::5", Device: "eth8", Listen: true})
		require.NoError(t, err)
		at := func(device string) string { return net.JoinHostPort("fe80::5%"+device, strconv.Itoa(port)) }
		_, err = (&iwarp.PortSpace{}).Reserve(t.Context(), "tcp", at("eth8"))
		require.ErrorContains(t, err, "listening on "+at("eth8")+" by ")
		require.ErrorContains(t, err, "pid "+strconv.Itoa(there.PID))
		require.NoError(t, reserve(t, nil, "tcp", at("eth9")).Release())
	})
}
