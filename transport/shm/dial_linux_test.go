package shm_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/nettest"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/internal/testkit"
	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/shm"
	"github.com/rdmanet/iwarp/transport/soft"
)

// patient dials by the default policy, and does not fall back because a machine is slow.
var patient = iwarp.Dialer{Timeout: limit, HandshakeTimeout: limit}

// listenTCP starts a Listener of package iwarp that ends with the test.
func listenTCP(t testing.TB, lc iwarp.ListenConfig, network, address string) net.Listener {
	t.Helper()
	l, err := lc.Listen(t.Context(), network, address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func dialBy(t testing.TB, d *iwarp.Dialer, address string) net.Conn {
	t.Helper()
	c, err := d.Dial("tcp", address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	require.NoError(t, c.SetDeadline(soon()))
	return c
}

// meet dials while l accepts, and returns the client's connection and the server's.
func meet(t testing.TB, l net.Listener, d *iwarp.Dialer, address string) (client, server net.Conn) {
	t.Helper()
	accepted := make(chan net.Conn, 1)
	go func() {
		c, _ := l.Accept()
		accepted <- c
	}()
	client = dialBy(t, d, address)
	select {
	case server = <-accepted:
	case <-time.After(limit):
	}
	require.NotNil(t, server)
	t.Cleanup(func() { _ = server.Close() })
	require.NoError(t, server.SetDeadline(soon()))
	return client, server
}

func describe(t testing.TB, c net.Conn) iwarp.Info {
	t.Helper()
	info, ok := iwarp.Describe(c)
	require.True(t, ok)
	return info
}

// TestSharedMemory reaches a server on the same host through shared memory, by every policy and
// address, and holds the client's port in the kernel's port space meanwhile.
func TestSharedMemory(t *testing.T) {
	for _, tt := range []struct{ listen, dial, network string }{
		{listen: "127.0.0.1:0", dial: "127.0.0.1"},
		{listen: "127.0.0.2:0", dial: "127.0.0.2"},
		{listen: "0.0.0.0:0", dial: "127.0.0.1", network: "tcp4"},
		{listen: "0.0.0.0:0", dial: "127.1.2.3", network: "tcp4"},
		{listen: ":0", dial: "127.0.0.1"},
		{listen: ":0", dial: "::1"},
		{listen: "[::1]:0", dial: "::1"},
		{listen: "[::]:0", dial: "::1", network: "tcp6"},
		{listen: ":0", dial: ""},
	} {
		for _, policy := range []iwarp.Offload{iwarp.OffloadAuto, iwarp.OffloadPrefer, iwarp.OffloadRequire} {
			t.Run(tt.listen+" "+tt.dial+" "+policy.String(), func(t *testing.T) {
				if tt.dial == "::1" && !nettest.SupportsIPv6() {
					t.Skip("no IPv6 here")
				}
				network := tt.network
				if network == "" {
					network = "tcp"
				}
				l := listenTCP(t, iwarp.ListenConfig{Offload: policy}, network, tt.listen)
				_, port, err := net.SplitHostPort(l.Addr().String())
				require.NoError(t, err)
				c, s := meet(t, l, &iwarp.Dialer{Offload: policy, Timeout: limit, HandshakeTimeout: limit}, net.JoinHostPort(tt.dial, port))
				testkit.Exchange(t, c, s, "hello")
				for _, c := range []net.Conn{c, s} {
					info := describe(t, c)
					require.Equal(t, "shm", info.Transport)
					require.Equal(t, "shm", info.Device)
					require.True(t, info.Offloaded)
					require.Equal(t, iwarp.ReasonNone, info.Reason)
				}
				require.Equal(t, c.LocalAddr().String(), s.RemoteAddr().String())
				require.Equal(t, c.RemoteAddr().String(), s.LocalAddr().String())
				local := c.LocalAddr().String()
				_, err = net.Listen("tcp", local)
				require.ErrorIs(t, err, syscall.EADDRINUSE, "the port of the connection is taken")
				require.NoError(t, c.Close())
				_, err = iwarp.Listen("tcp", local)
				require.ErrorIs(t, err, syscall.EADDRINUSE, "the server has the connection")
				_, err = s.Read(make([]byte, 1))
				require.Equal(t, io.EOF, err)
				require.NoError(t, s.Close())
				require.Eventually(t, func() bool {
					free, err := iwarp.Listen("tcp", local)
					return err == nil && free.Close() == nil
				}, limit, time.Millisecond, "the port is there for who asks for it")
			})
		}
	}
}

// TestSharedMemoryFallback is plain TCP with a reason where the server does not offer shared
// memory, without a byte more for it than without the transport.
func TestSharedMemoryFallback(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	d := iwarp.Dialer{Transports: []transport.Transport{shm.New(nil)}, Timeout: limit}
	c, s := meet(t, l, &d, l.Addr().String())
	testkit.Exchange(t, c, s, "hello")
	require.IsType(t, &net.TCPConn{}, c)
	info := describe(t, c)
	require.Equal(t, iwarp.ReasonNoRoute, info.Reason)
	require.ErrorIs(t, info.Err, transport.ErrNoRoute)

	d.Offload = iwarp.OffloadRequire
	_, err = d.Dial("tcp", l.Addr().String())
	var why *iwarp.OffloadError
	require.ErrorAs(t, err, &why)
	require.Equal(t, iwarp.ReasonNoRoute, why.Reason)
	require.EqualError(t, why, "offload required: no route through an rdma device: nobody there offers shared memory")
}

// TestSharedMemoryBeside serves clients of the kernel's TCP and iWARP in software on the same port.
func TestSharedMemoryBeside(t *testing.T) {
	l := listenTCP(t, iwarp.ListenConfig{}, "tcp", "127.0.0.1:0")
	c, s := meet(t, l, &iwarp.Dialer{Offload: iwarp.OffloadRequire, Transports: []transport.Transport{soft.New(nil)}}, l.Addr().String())
	testkit.Exchange(t, c, s, "hello")
	require.Equal(t, "soft", describe(t, s).Transport)
	c, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	_, err = io.WriteString(c, "x")
	require.NoError(t, err)
	s, err = l.Accept()
	require.NoError(t, err)
	defer s.Close()
	require.IsType(t, &net.TCPConn{}, s)
}

// TestSharedMemoryPorts has connections to one server come from different ports, and none from one
// that is taken.
func TestSharedMemoryPorts(t *testing.T) {
	l := listenTCP(t, iwarp.ListenConfig{}, "tcp", "127.0.0.1:0")
	d := patient
	seen := make(map[string]bool)
	for range 20 {
		c, s := meet(t, l, &d, l.Addr().String())
		require.False(t, seen[s.RemoteAddr().String()])
		seen[s.RemoteAddr().String()] = true
		require.Equal(t, "shm", describe(t, c).Transport)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	d.LocalAddr = free.Addr()
	require.NoError(t, free.Close())
	c, s := meet(t, l, &d, l.Addr().String())
	require.Equal(t, d.LocalAddr.String(), c.LocalAddr().String())
	require.Equal(t, d.LocalAddr.String(), s.RemoteAddr().String())
	_, err = d.Dial("tcp", l.Addr().String())
	require.ErrorIs(t, err, syscall.EADDRINUSE, "as with TCP")
}

// TestSharedMemoryHeld has no two connections of the same addresses, while a program still has the
// one that the other end has closed.
func TestSharedMemoryHeld(t *testing.T) {
	const conns = 5
	for _, holder := range []string{"client", "server"} {
		t.Run(holder, func(t *testing.T) {
			l := listenTCP(t, iwarp.ListenConfig{}, "tcp", "127.0.0.1:0")
			d := iwarp.Dialer{Offload: iwarp.OffloadRequire, PortSpace: &iwarp.PortSpace{}}
			seen := make(map[string]bool)
			for range conns {
				client, server := meet(t, l, &d, l.Addr().String())
				holds, closes := client, server
				if holder == "server" {
					holds, closes = server, client
				}
				require.NoError(t, closes.Close())
				_, err := io.Copy(io.Discard, holds)
				require.NoError(t, err)
				seen[client.LocalAddr().String()] = true
			}
			require.Len(t, seen, conns)
		})
	}
}

// TestSharedMemoryMeetingPlace is there for each listener at an address in turn.
func TestSharedMemoryMeetingPlace(t *testing.T) {
	var lc iwarp.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	d := iwarp.Dialer{Offload: iwarp.OffloadRequire, Timeout: limit, Transports: []transport.Transport{shm.New(nil)}}
	for range 3 {
		at := l.Addr().String()
		c, s := meet(t, l, &d, at)
		testkit.Exchange(t, c, s, "hello")
		require.NoError(t, l.Close())
		_, err = d.Dial("tcp", at)
		require.ErrorIs(t, err, transport.ErrNoRoute)
		_ = c.Close() // its port is that of the service at the other end
		_ = s.Close()
		l, err = lc.Listen(t.Context(), "tcp", at)
		require.NoError(t, err)
	}
	require.NoError(t, l.Close())
}

func TestSharedMemoryDialed(t *testing.T) {
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		l, err := iwarp.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, nil, nil, err
		}
		defer l.Close()
		done := make(chan error, 1)
		go func() {
			var err error
			c2, err = l.Accept()
			done <- err
		}()
		c1, err = iwarp.Dial("tcp", l.Addr().String())
		if err = errors.Join(err, <-done); err != nil {
			return nil, nil, nil, err
		}
		return c1, c2, func() { _ = c1.Close(); _ = c2.Close() }, nil
	})
}

// TestSharedMemoryHTTP has net/http, and crypto/tls, above it.
func TestSharedMemoryHTTP(t *testing.T) {
	for _, encrypted := range []bool{false, true} {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }))
		_ = s.Listener.Close()
		s.Listener = listenTCP(t, iwarp.ListenConfig{}, "tcp", "127.0.0.1:0")
		if encrypted {
			s.StartTLS()
		} else {
			s.Start()
		}
		defer s.Close()
		d := iwarp.Dialer{Offload: iwarp.OffloadRequire, Transports: []transport.Transport{shm.New(nil)}}
		client := s.Client()
		client.Timeout = limit
		client.Transport.(*http.Transport).DialContext = d.DialContext
		upload(t, client, s.URL)
	}
}

// upload sends bodies in several requests at once, and gets them back.
func upload(t *testing.T, client *http.Client, url string) {
	body := make([]byte, 1<<20)
	_, _ = rand.Read(body)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 5 {
				r, err := client.Post(url, "application/octet-stream", bytes.NewReader(body))
				if err != nil {
					t.Error(err)
					return
				}
				got, err := io.ReadAll(r.Body)
				_ = r.Body.Close()
				if err != nil || !bytes.Equal(body, got) {
					t.Error("the body differs", err)
				}
			}
		})
	}
	all.Wait()
}
