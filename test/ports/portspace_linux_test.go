package ports_test

import (
	"context"
	"io"
	"net"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp"
)

func TestReservationCannotBeStolen(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", ":0"} {
		r := reserve(t, nil, "tcp", address)
		require.ErrorIs(t, thief(t, r.Addr()), syscall.EADDRINUSE, "idle")
		l, err := r.Listen()
		require.NoError(t, err)
		require.ErrorIs(t, thief(t, r.Addr()), syscall.EADDRINUSE, "listening")
		require.NoError(t, l.Close())
		require.NoError(t, thief(t, r.Addr()), "closed")
	}
}

// TestReservationSurvivesTimeWait restarts a server whose old connections are in TIME_WAIT.
func TestReservationSurvivesTimeWait(t *testing.T) {
	first := reserve(t, nil, "tcp", "127.0.0.1:0")
	l, err := first.Listen()
	require.NoError(t, err)
	c := dialTCP(t, l)
	s, err := l.Accept()
	require.NoError(t, err)
	require.NoError(t, s.Close()) // the server closes first
	_, err = c.Read(make([]byte, 1))
	require.Error(t, err)
	require.NoError(t, c.Close())
	require.NoError(t, l.Close())

	again := reserve(t, nil, "tcp", first.Addr().String())
	_, _, err = order{Addr: "127.0.0.1", Port: again.Addr().(*net.TCPAddr).Port, ReuseAddr: true}.Do()
	require.ErrorIs(t, err, syscall.EADDRINUSE, "not even bound")
	l, err = again.Listen()
	require.NoError(t, err)
	require.NoError(t, l.Close())
}

// TestReservationSurvivesTimeWaitOnWildcards is the same for wildcard addresses.
func TestReservationSurvivesTimeWaitOnWildcards(t *testing.T) {
	for network, host := range map[string]string{"tcp": "127.0.0.1", "tcp4": "127.0.0.1", "tcp6": "::1"} {
		t.Run(network, func(t *testing.T) {
			first := reserve(t, nil, network, ":0")
			l, err := first.Listen()
			require.NoError(t, err)
			port := strconv.Itoa(first.Addr().(*net.TCPAddr).Port)
			c, err := net.Dial(network, net.JoinHostPort(host, port))
			require.NoError(t, err)
			s, err := l.Accept()
			require.NoError(t, err)
			require.NoError(t, s.Close()) // the server closes first
			require.NoError(t, c.Close())
			require.NoError(t, l.Close())
			again := reserve(t, nil, network, net.JoinHostPort("", port))
			require.ErrorIs(t, listenAs(network, port), syscall.EADDRINUSE)
			l, err = again.Listen()
			require.NoError(t, err)
			require.NoError(t, l.Close())
		})
	}
}

// listenAs tries to listen with SO_REUSEADDR, as package net does.
func listenAs(network, port string) error {
	l, err := net.Listen(network, net.JoinHostPort("", port))
	if err == nil {
		_ = l.Close()
	}
	return err
}

func TestReservationRefusesUntilListen(t *testing.T) {
	r := reserve(t, nil, "tcp", "127.0.0.1:0")
	_, err := net.Dial("tcp", r.Addr().String())
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
}

func TestReservationDial(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	go echo(l)
	for _, tt := range []struct{ network, local string }{
		{"tcp", "127.0.0.1:0"}, {"tcp4", "127.0.0.1:0"}, {"tcp", ":0"}, {"tcp4", ":0"},
	} {
		t.Run(tt.network+" "+tt.local, func(t *testing.T) {
			r := reserve(t, nil, tt.network, tt.local)
			c, err := r.DialContext(t.Context(), "tcp", l.Addr().String())
			require.NoError(t, err)
			defer c.Close()
			require.Equal(t, r.Addr().(*net.TCPAddr).Port, c.LocalAddr().(*net.TCPAddr).Port)
			require.Equal(t, l.Addr().String(), c.RemoteAddr().String())
			exchangeWithEcho(t, c, "hello")
			require.ErrorIs(t, r.Release(), net.ErrClosed, "the port belongs to the connection")
			require.True(t, keepsAlive(t, c))
		})
	}
}

func keepsAlive(t testing.TB, c *net.TCPConn) bool {
	t.Helper()
	on, _ := sockopt(t, c, unix.SOL_SOCKET, unix.SO_KEEPALIVE)
	return on != 0
}

func sockopt(t testing.TB, c syscall.Conn, level, option int) (v int, err error) {
	t.Helper()
	rc, err := c.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, rc.Control(func(fd uintptr) { v, err = unix.GetsockoptInt(int(fd), level, option) }))
	require.NoError(t, err)
	return v, err
}

// TestReservationDialErrors holds the errors against those of a net.Dialer with the same local
// address.
func TestReservationDialErrors(t *testing.T) {
	closed := closedPort(t)
	past, cancel := context.WithDeadline(t.Context(), time.Unix(1, 0))
	defer cancel()
	for _, tt := range []struct {
		name, network, address string
		ctx                    context.Context
	}{
		{name: "refused", network: "tcp", address: closed},
		{name: "canceled", network: "tcp", address: closed, ctx: canceled()},
		{name: "deadline", network: "tcp", address: closed, ctx: past},
		{name: "other family", network: "tcp", address: "[::1]:80"},
		{name: "no port", network: "tcp", address: "127.0.0.1"},
		{name: "unknown network", network: "tpc", address: closed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx := tt.ctx
			if ctx == nil {
				ctx = t.Context()
			}
			r := reserve(t, nil, "tcp", "127.0.0.1:0")
			_, err := r.DialContext(ctx, tt.network, tt.address)
			require.Error(t, err)
			require.ErrorIs(t, thief(t, r.Addr()), syscall.EADDRINUSE, "the port is held after a failure")
			require.NoError(t, r.Release())

			d := net.Dialer{LocalAddr: r.Addr()}
			_, want := d.DialContext(ctx, tt.network, tt.address)
			requireSameError(t, want, err)
		})
	}
	var none context.Context
	require.PanicsWithValue(t, "nil context", func() {
		_, _ = reserve(t, nil, "tcp", "127.0.0.1:0").DialContext(none, "tcp", closed)
	})
}

// fullBacklog returns the address of a listener that answers no SYN, since its backlog is full.
func fullBacklog(t testing.TB) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = unix.Close(fd) })
	require.NoError(t, unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	require.NoError(t, unix.Listen(fd, 0))
	sa, err := unix.Getsockname(fd)
	require.NoError(t, err)
	addr := (&net.TCPAddr{IP: net.IP{127, 0, 0, 1}, Port: sa.(*unix.SockaddrInet4).Port}).String()
	for range 10 {
		c, err := net.DialTimeout("tcp", addr, 200*time.Millisecond)
		if err != nil {
			require.True(t, err.(net.Error).Timeout())
			return addr
		}
		t.Cleanup(func() { _ = c.Close() })
	}
	t.Fatal("the backlog does not fill up")
	return ""
}

// TestReservationDialGivesUp ends a dial whose SYN is not answered; the socket can be used again.
func TestReservationDialGivesUp(t *testing.T) {
	mute := fullBacklog(t)
	r := reserve(t, nil, "tcp", "127.0.0.1:0")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := r.DialContext(ctx, "tcp", mute)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.True(t, opError(t, err).Timeout())
	require.ErrorIs(t, thief(t, r.Addr()), syscall.EADDRINUSE)

	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	go echo(l)
	c, err := r.DialContext(t.Context(), "tcp", l.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	require.Equal(t, r.Addr().String(), c.LocalAddr().String())
	exchangeWithEcho(t, c, "hello")
}

func TestReservationReleasedUnderDial(t *testing.T) {
	mute := fullBacklog(t)
	r := reserve(t, nil, "tcp", "127.0.0.1:0")
	connecting := make(chan struct{})
	done := make(chan error)
	d := &iwarp.Dialer{LocalAddr: r.Addr(), Offload: iwarp.OffloadNever, Control: func(string, string, syscall.RawConn) error {
		close(connecting)
		return nil
	}}
	go func() {
		_, err := d.DialContext(t.Context(), "tcp", mute)
		done <- err
	}()
	<-connecting
	require.NoError(t, r.Release())
	require.ErrorIs(t, <-done, context.Canceled)
	require.NoError(t, thief(t, r.Addr()), "the port is free")
	require.ErrorIs(t, r.Release(), net.ErrClosed)
}

// TestDialFromReservation has a Dialer connect from the port that its PortSpace holds.
func TestDialFromReservation(t *testing.T) {
	l := listen(t, iwarp.ListenConfig{})
	go echo(l)
	for _, policy := range policies {
		t.Run(policy.String(), func(t *testing.T) {
			r := reserve(t, nil, "tcp", "127.0.0.1:0")
			d := iwarp.Dialer{Offload: policy, LocalAddr: r.Addr(), KeepAlive: -1, Timeout: patience, HandshakeTimeout: patience, PortSpace: &iwarp.PortSpace{}}
			_, err := d.Dial("tcp", l.Addr().String())
			require.ErrorIs(t, err, syscall.EADDRINUSE, "the reservation is in another space")

			d.PortSpace = nil
			c, err := d.Dial("tcp", l.Addr().String())
			require.NoError(t, err)
			defer c.Close()
			require.Equal(t, r.Addr().String(), c.LocalAddr().String())
			exchangeWithEcho(t, c, "hello")
			if c, ok := c.(*net.TCPConn); ok {
				require.False(t, keepsAlive(t, c))
			}
			require.ErrorIs(t, r.Release(), net.ErrClosed)
		})
	}
}

// TestListenerConfigReachesConns checks what accepted connections inherit from the ListenConfig,
// with and without a reservation.
func TestListenerConfigReachesConns(t *testing.T) {
	for _, policy := range []iwarp.Offload{iwarp.OffloadAuto, iwarp.OffloadNever} {
		for _, reserved := range []bool{false, true} {
			lc := iwarp.ListenConfig{Offload: policy, KeepAlive: -1, PortSpace: &iwarp.PortSpace{}}
			address := "127.0.0.1:0"
			if reserved {
				address = reserve(t, lc.PortSpace, "tcp", address).Addr().String()
			}
			l, err := lc.Listen(t.Context(), "tcp", address)
			require.NoError(t, err)
			defer l.Close()
			c := dialTCP(t, l)
			_, err = io.WriteString(c, "hello")
			require.NoError(t, err)
			s := accept(t, l.(*iwarp.Listener))
			require.False(t, keepsAlive(t, s.(*net.TCPConn)), "%v, reserved %v", policy, reserved)
		}
	}
}
