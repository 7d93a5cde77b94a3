package iwarp_test

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
)

// TestListenErrors holds the errors of every policy against those of package net.
func TestListenErrors(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	for _, tt := range []struct {
		name, network, address string
		control                func(string, string, syscall.RawConn) error
		is                     error
	}{
		{name: "taken", network: "tcp", address: taken.Addr().String(), is: syscall.EADDRINUSE},
		{name: "foreign address", network: "tcp", address: "192.0.2.1:0", is: syscall.EADDRNOTAVAIL},
		{name: "no port", network: "tcp", address: "127.0.0.1"},
		{name: "bad port", network: "tcp", address: "127.0.0.1:65536"},
		{name: "v6 over tcp4", network: "tcp4", address: "[::1]:0"},
		{name: "unknown network", network: "tpc", address: "127.0.0.1:0"},
		{name: "packet network", network: "udp", address: "127.0.0.1:0"},
		{name: "unix", network: "unix", address: "/no/such/directory/socket"},
		{name: "control", network: "tcp", address: "127.0.0.1:0", is: errTest, control: func(string, string, syscall.RawConn) error { return errTest }},
	} {
		_, want := (&net.ListenConfig{Control: tt.control}).Listen(t.Context(), tt.network, tt.address)
		require.Error(t, want)
		for _, policy := range policies {
			t.Run(tt.name+"/"+policy.String(), func(t *testing.T) {
				l, err := (&iwarp.ListenConfig{Offload: policy, Control: tt.control}).Listen(t.Context(), tt.network, tt.address)
				require.Nil(t, l)
				requireSameError(t, want, err)
				if tt.is != nil {
					require.ErrorIs(t, err, tt.is)
				}
			})
		}
	}
}

func TestListenAddresses(t *testing.T) {
	for _, tt := range []struct{ network, address string }{
		{"tcp", ":0"}, {"tcp", ""}, {"tcp", "0.0.0.0:0"}, {"tcp", "[::]:0"}, {"tcp", "[::1]:0"}, {"tcp", "localhost:0"},
		{"tcp4", ":0"}, {"tcp6", ":0"}, {"tcp4", "127.0.0.1:0"}, {"tcp6", "[::1]:0"},
	} {
		t.Run(tt.network+" "+tt.address, func(t *testing.T) {
			if tt.address == "localhost:0" {
				needLocalhost(t)
			}
			theirs, err := net.Listen(tt.network, tt.address)
			require.NoError(t, err)
			defer theirs.Close()
			ours, err := iwarp.Listen(tt.network, tt.address)
			require.NoError(t, err)
			defer ours.Close()
			want, got := theirs.Addr().(*net.TCPAddr), ours.Addr().(*net.TCPAddr)
			require.Equal(t, want.IP, got.IP)
			require.NotZero(t, got.Port)
			go echo(ours)
			for _, policy := range policies {
				d := iwarp.Dialer{Offload: policy, Timeout: patience}
				c, err := d.Dial(tt.network, got.String())
				require.NoError(t, err)
				require.IsType(t, (*net.TCPAddr)(nil), c.LocalAddr())
				require.Equal(t, got.Port, c.RemoteAddr().(*net.TCPAddr).Port)
				exchangeWithEcho(t, c, "hello")
				require.NoError(t, c.Close())
			}
		})
	}
}

func TestListenUnix(t *testing.T) {
	path := t.TempDir() + "/socket"
	l, err := iwarp.Listen("unix", path)
	require.NoError(t, err)
	defer l.Close()
	require.IsType(t, (*net.UnixListener)(nil), l)
	c, err := iwarp.Dial("unix", path)
	require.NoError(t, err)
	require.IsType(t, (*net.UnixConn)(nil), c)
	require.NoError(t, c.Close())
}

func TestListenerZero(t *testing.T) {
	for _, l := range []*iwarp.Listener{nil, {}} {
		_, err := l.Accept()
		require.ErrorIs(t, err, syscall.EINVAL)
		require.ErrorIs(t, l.Close(), syscall.EINVAL)
		require.ErrorIs(t, l.SetDeadline(time.Now()), syscall.EINVAL)
		require.Nil(t, l.Addr())
		require.Zero(t, l.Stats())
	}
}

func TestListenerClose(t *testing.T) {
	for _, policy := range policies {
		t.Run(policy.String(), func(t *testing.T) {
			l := listen(t, iwarp.ListenConfig{Offload: policy})
			addr := l.Addr().String()
			accepted := make(chan error)
			go func() {
				_, err := l.Accept()
				accepted <- err
			}()
			require.NoError(t, l.Close())
			isClosed := func(err error, op string) {
				e := opError(t, err)
				require.ErrorIs(t, err, net.ErrClosed)
				require.Equal(t, op, e.Op)
				require.Equal(t, "tcp", e.Net)
				require.Nil(t, e.Source)
				require.Equal(t, addr, e.Addr.String())
				require.Contains(t, err.Error(), "use of closed network connection")
				require.False(t, e.Timeout())
			}
			isClosed(<-accepted, "accept")
			for range 3 {
				_, err := l.Accept()
				isClosed(err, "accept")
			}
			isClosed(l.Close(), "close")
			require.ErrorIs(t, l.SetDeadline(time.Now()), net.ErrClosed)
			require.Equal(t, addr, l.Addr().String())
			again, err := iwarp.Listen("tcp", addr)
			require.NoError(t, err, "the port is free")
			require.NoError(t, again.Close())
		})
	}
}

// TestListenerClosePastDeadline gives the error of the end, not that of the deadline.
func TestListenerClosePastDeadline(t *testing.T) {
	for _, policy := range policies {
		l := listen(t, iwarp.ListenConfig{Offload: policy})
		require.NoError(t, l.SetDeadline(time.Unix(1, 0)))
		require.NoError(t, l.Close())
		for range 20 {
			_, err := l.Accept()
			require.ErrorIs(t, err, net.ErrClosed)
		}
	}
}

// TestListenerCloseEndsWaiting closes a listener under clients in every state that Accept has not
// returned yet.
func TestListenerCloseEndsWaiting(t *testing.T) {
	l := listen(t, iwarp.ListenConfig{FirstByteTimeout: time.Hour, HandshakeTimeout: time.Hour})
	clients := map[string]string{"silent": "", "part of the key": "MPA ID", "part of the request": "MPA ID Req Frame\x40", "plain": "hello"}
	var conns []net.Conn
	for _, text := range clients {
		c := dialTCP(t, l)
		_, err := io.WriteString(c, text)
		require.NoError(t, err)
		conns = append(conns, c)
	}
	ended := make(chan error, 1)
	go func() {
		for {
			c, err := l.Accept() // the plain one
			if err != nil {
				ended <- err
				return
			}
			_ = c.Close()
		}
	}()
	eventually(t, func() bool { s := l.Stats(); return s.HalfOpen == 3 && s.PlainTCP == 1 }, "the clients are there")
	require.NoError(t, l.Close())
	require.ErrorIs(t, <-ended, net.ErrClosed)
	for _, c := range conns {
		_, err := c.Read(make([]byte, 1))
		require.Error(t, err)
		require.False(t, errors.Is(err, os.ErrDeadlineExceeded), "%v", err)
	}
	require.Zero(t, l.Stats().HalfOpen)
	require.Zero(t, l.Stats().Ready)
}

func TestListenerDeadline(t *testing.T) {
	for _, policy := range policies {
		t.Run(policy.String(), func(t *testing.T) {
			l := listen(t, iwarp.ListenConfig{Offload: policy})
			timedOut := func(err error) {
				e := opError(t, err)
				require.ErrorIs(t, err, os.ErrDeadlineExceeded)
				require.True(t, e.Timeout())
				require.True(t, e.Temporary())
				require.Equal(t, "accept", e.Op)
			}
			require.NoError(t, l.SetDeadline(time.Now().Add(time.Millisecond)))
			_, err := l.Accept()
			timedOut(err)

			// A deadline in the past takes precedence over a connection that is there.
			c := dial(t, l, iwarp.OffloadNever)
			_, err = io.WriteString(c, "hello")
			require.NoError(t, err)
			require.NoError(t, l.SetDeadline(time.Unix(1, 0)))
			for range 20 {
				_, err = l.Accept()
				timedOut(err)
			}

			// One set from another goroutine wakes a blocked Accept, which leaves the listener
			// usable.
			require.NoError(t, l.SetDeadline(time.Time{}))
			if policy != iwarp.OffloadRequire {
				_, err = l.Accept()
				require.NoError(t, err)
			}
			done := make(chan error)
			go func() {
				_, err := l.Accept()
				done <- err
			}()
			require.NoError(t, l.SetDeadline(time.Unix(1, 0)))
			timedOut(<-done)
			require.NoError(t, l.SetDeadline(time.Time{}))
			if policy != iwarp.OffloadNever {
				require.Equal(t, "soft", describe(t, dialAndAccept(t, l, iwarp.OffloadRequire)).Transport)
			}
		})
	}
}

// dialAndAccept returns the server's end of a connection.
func dialAndAccept(t testing.TB, l *iwarp.Listener, policy iwarp.Offload) net.Conn {
	t.Helper()
	var wg sync.WaitGroup
	wg.Go(func() { dial(t, l, policy) })
	c := accept(t, l)
	wg.Wait()
	return c
}
