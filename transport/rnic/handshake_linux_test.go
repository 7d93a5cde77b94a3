//go:build amd64 || arm64

package rnic_test

import (
	"context"
	"net"
	"net/netip"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/internal/transporttest"
	"github.com/rdmanet/iwarp/transport/rnic"
)

func TestPrivateData(t *testing.T) {
	for _, n := range []int{0, 40, 56} {
		eachDevice(t, func(t *testing.T, r *rnic.Transport, d transport.Device, addr netip.Addr) {
			ctx := limited(t)
			l := listen(t, r, addr)
			c, err := r.Dial(ctx, netip.AddrPort{}, l.Addr(), nil)
			require.NoError(t, err)
			done := connecting(ctx, c, pattern(n, 1))
			s, err := l.Accept(ctx)
			require.NoError(t, err)
			// InfiniBand and RoCE fill up with zeros.
			got := s.PrivateData()
			require.GreaterOrEqual(t, len(got), n)
			require.Equal(t, string(pattern(n, 1)), string(got[:n]))
			require.NoError(t, s.Accept(ctx, pattern(n, 2)))
			k := <-done
			require.NoError(t, k.Err)
			require.GreaterOrEqual(t, len(k.Private), n)
			require.Equal(t, string(pattern(n, 2)), string(k.Private[:n]))
			if d.IWARP {
				require.Len(t, got, n)
				require.Len(t, k.Private, n)
			}
			require.NoError(t, c.Close(), "which does nothing after Connect")
			require.NoError(t, c.QueuePair().Err())
			require.NoError(t, c.QueuePair().Abort())
			require.NoError(t, s.QueuePair().Abort())
		})
	}
}

func TestLongPrivateData(t *testing.T) {
	eachDevice(t, func(t *testing.T, r *rnic.Transport, d transport.Device, addr netip.Addr) {
		ctx := limited(t)
		l := listen(t, r, addr)
		c, err := r.Dial(ctx, netip.AddrPort{}, l.Addr(), nil)
		require.NoError(t, err)
		_, err = c.Connect(ctx, make([]byte, 252))
		require.Error(t, err)
		gone(t, c.QueuePair())

		for name, answer := range map[string]func(s transport.Request) error{
			"accept": func(s transport.Request) error { return s.Accept(ctx, make([]byte, 252)) },
			"reject": func(s transport.Request) error { return s.Reject(make([]byte, 252)) },
		} {
			c, err = r.Dial(ctx, netip.AddrPort{}, l.Addr(), nil)
			require.NoError(t, err)
			done := connecting(ctx, c, nil)
			s, err := l.Accept(ctx)
			require.NoError(t, err)
			require.Error(t, answer(s), name)
			require.Error(t, (<-done).Err, name)
			gone(t, s.QueuePair())
		}
	})
}

func TestReject(t *testing.T) {
	for _, n := range []int{0, 40} {
		eachDevice(t, func(t *testing.T, r *rnic.Transport, d transport.Device, addr netip.Addr) {
			ctx := limited(t)
			l := listen(t, r, addr)
			c, err := r.Dial(ctx, netip.AddrPort{}, l.Addr(), nil)
			require.NoError(t, err)
			done := connecting(ctx, c, pattern(8, 1))
			s, err := l.Accept(ctx)
			require.NoError(t, err)
			require.NoError(t, s.Reject(pattern(n, 3)))
			err = (<-done).Err
			if n == 0 && d.IWARP {
				// The same as when the peer hangs up.
				require.ErrorIs(t, err, transport.ErrNotIWARP)
				return
			}
			var rejected *transport.RejectedError
			require.ErrorAs(t, err, &rejected)
			require.ErrorIs(t, err, syscall.ECONNREFUSED)
			require.Equal(t, string(pattern(n, 3)), string(rejected.PrivateData[:n]))
			require.ErrorIs(t, c.QueuePair().Err(), net.ErrClosed)
			require.ErrorIs(t, s.QueuePair().Err(), net.ErrClosed)
			gone(t, c.QueuePair())
			gone(t, s.QueuePair())
		})
	}
}

func TestNobodyListens(t *testing.T) {
	eachDevice(t, func(t *testing.T, r *rnic.Transport, d transport.Device, addr netip.Addr) {
		c, err := r.Dial(limited(t), netip.AddrPort{}, netip.AddrPortFrom(addr, 9), nil)
		require.NoError(t, err)
		_, err = c.Connect(limited(t), nil)
		require.ErrorIs(t, err, syscall.ECONNREFUSED)
		gone(t, c.QueuePair())
	})
}

// tcpPeer listens with the kernel's TCP on the address of a device, and handles one connection.
func tcpPeer(t *testing.T, addr netip.Addr, handle func(c *net.TCPConn)) netip.AddrPort {
	l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(addr, 0)))
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if c, err := l.AcceptTCP(); err == nil {
			handle(c)
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return l.Addr().(*net.TCPAddr).AddrPort()
}

func ofIWARP(t *testing.T, test func(t *testing.T, r *rnic.Transport, d transport.Device, addr netip.Addr)) {
	eachDevice(t, func(t *testing.T, r *rnic.Transport, d transport.Device, addr netip.Addr) {
		if !d.IWARP {
			t.Skip("its peers are not in the world of TCP")
		}
		test(t, r, d, addr)
	})
}

// A peer that says nothing costs a goroutine and an ID until the kernel gives up, but not the
// caller's time.
func TestSilentPeer(t *testing.T) {
	ofIWARP(t, func(t *testing.T, r *rnic.Transport, d transport.Device, addr netip.Addr) {
		hold := make(chan struct{})
		peer := tcpPeer(t, addr, func(c *net.TCPConn) {
			defer c.Close()
			<-hold
		})
		before := runtime.NumGoroutine()
		c, err := r.Dial(limited(t), netip.AddrPort{}, peer, nil)
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		begin := time.Now()
		_, err = c.Connect(ctx, nil)
		require.ErrorIs(t, err, transport.ErrHandshakeTimeout)
		require.Less(t, time.Since(begin), 9*time.Second, "siw gives up after ten")
		begin = time.Now()
		gone(t, c.QueuePair())
		t.Log("gone after", time.Since(begin))
		require.Eventually(t, func() bool { return runtime.NumGoroutine() <= before+1 }, limit, 10*time.Millisecond)
		close(hold)
	})
}

func TestPeerThatIsNotIWARP(t *testing.T) {
	for name, handle := range map[string]func(c *net.TCPConn){
		"garbage": func(c *net.TCPConn) {
			defer c.Close()
			c.Read(make([]byte, 64))
			// Where an MPA reply has the length of its private data there must be zeros: siw of
			// Linux 6.1 takes the word of a frame that it refuses, and its private data from
			// address 0 (siw_cm_upcall).
			c.Write(append([]byte("HTTP/1.1 400 Bad R\x00\x00"), "equest\r\n\r\n"...))
		},
		"hangs up": func(c *net.TCPConn) {
			c.Read(make([]byte, 64))
			c.Close()
		},
		"resets": func(c *net.TCPConn) {
			c.SetLinger(0)
			c.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			ofIWARP(t, func(t *testing.T, r *rnic.Transport, d transport.Device, addr netip.Addr) {
				c, err := r.Dial(limited(t), netip.AddrPort{}, tcpPeer(t, addr, handle), nil)
				require.NoError(t, err)
				_, err = c.Connect(limited(t), []byte("hello"))
				require.ErrorIs(t, err, transport.ErrNotIWARP)
				gone(t, c.QueuePair())
			})
		})
	}
}

func TestContexts(t *testing.T) {
	eachDevice(t, func(t *testing.T, r *rnic.Transport, d transport.Device, addr netip.Addr) {
		cancelled, cancel := context.WithCancel(t.Context())
		cancel()
		late, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
		defer cancel()
		l := listen(t, r, addr)

		_, err := r.Listen(cancelled, netip.AddrPortFrom(addr, 0), nil)
		require.ErrorIs(t, err, context.Canceled)
		_, err = r.Route(cancelled, netip.AddrPort{}, l.Addr())
		require.ErrorIs(t, err, context.Canceled)
		_, err = r.Dial(cancelled, netip.AddrPort{}, l.Addr(), nil)
		require.ErrorIs(t, err, context.Canceled)
		_, err = l.Accept(cancelled)
		require.ErrorIs(t, err, context.Canceled)

		c, err := r.Dial(limited(t), netip.AddrPort{}, l.Addr(), nil)
		require.NoError(t, err)
		_, err = c.Connect(cancelled, nil)
		require.ErrorIs(t, err, context.Canceled)
		c, err = r.Dial(limited(t), netip.AddrPort{}, l.Addr(), nil)
		require.NoError(t, err)
		_, err = c.Connect(late, nil)
		require.ErrorIs(t, err, transport.ErrHandshakeTimeout)

		// In the middle of it, often, as the queue pair may go just as the answer comes.
		for range 30 {
			c, err = r.Dial(limited(t), netip.AddrPort{}, l.Addr(), nil)
			require.NoError(t, err)
			ctx, cancel := context.WithCancel(t.Context())
			done := connecting(ctx, c, nil)
			s, err := l.Accept(limited(t))
			require.NoError(t, err)
			cancel()
			require.ErrorIs(t, (<-done).Err, context.Canceled)
			_ = s.Accept(limited(t), nil) // which may, or may not, have come to its end yet
			_ = s.QueuePair().Close()
			gone(t, c.QueuePair())
			gone(t, s.QueuePair())
		}
	})
}

// Close ends a Connect that is under way.
func TestCloseWhileConnecting(t *testing.T) {
	eachDevice(t, func(t *testing.T, r *rnic.Transport, d transport.Device, addr netip.Addr) {
		l := listen(t, r, addr)
		c, err := r.Dial(limited(t), netip.AddrPort{}, l.Addr(), nil)
		require.NoError(t, err)
		done := connecting(limited(t), c, nil)
		s, err := l.Accept(limited(t))
		require.NoError(t, err)
		begin := time.Now()
		require.NoError(t, c.Close())
		require.ErrorIs(t, (<-done).Err, net.ErrClosed)
		require.Less(t, time.Since(begin), 9*time.Second, "siw gives up after ten")
		_ = s.Reject(nil)
		gone(t, c.QueuePair())
		gone(t, s.QueuePair())
	})
}

// A server that speaks first and goes is heard.
func TestServerThatSendsAndCloses(t *testing.T) {
	eachDevice(t, func(t *testing.T, r *rnic.Transport, d transport.Device, addr netip.Addr) {
		l := listen(t, r, addr)
		for range 5 {
			c, err := r.Dial(limited(t), netip.AddrPort{}, l.Addr(), nil)
			require.NoError(t, err)
			receives(t, c.QueuePair(), 2, 64)
			done := connecting(limited(t), c, nil)
			s, err := l.Accept(limited(t))
			require.NoError(t, err)
			require.NoError(t, s.Accept(limited(t), nil))
			post(t, s.QueuePair(), transport.SendWR{Flags: transport.Inline, Data: []byte("hello")})
			require.NoError(t, s.QueuePair().Close())
			require.NoError(t, (<-done).Err)
			list, err := rest(t, c.QueuePair())
			require.Error(t, err)
			require.Equal(t, transport.Completion{Opcode: transport.OpRecv, Bytes: 5}, list[0])
			require.NoError(t, c.QueuePair().Close())
		}
	})
}

func TestRoute(t *testing.T) {
	r := rnic.New(nil)
	all := devices(t, r)
	for _, a := range []string{"127.0.0.1:80", "[::1]:80", "127.1.2.3:80", "[::ffff:127.0.0.1]:80", "0.0.0.0:80", "[::]:80"} {
		_, err := r.Route(limited(t), netip.AddrPort{}, netip.MustParseAddrPort(a))
		require.ErrorIs(t, err, transport.ErrNoRoute, a)
		_, err = r.Dial(limited(t), netip.AddrPort{}, netip.MustParseAddrPort(a), nil)
		require.ErrorIs(t, err, transport.ErrNoRoute, a)
	}
	// An address that no route leads to.
	_, err := r.Dial(limited(t), netip.AddrPort{}, netip.MustParseAddrPort("198.51.100.1:80"), nil)
	require.ErrorIs(t, err, transport.ErrNoRoute)
	t.Log(err)
	for _, d := range all {
		got, err := r.Route(limited(t), netip.AddrPort{}, netip.AddrPortFrom(d.Addrs[0], 80))
		require.NoError(t, err)
		require.Equal(t, d, got)
		got, err = r.Route(limited(t), netip.AddrPortFrom(d.Addrs[0], 4000), netip.AddrPortFrom(d.Addrs[0], 80))
		require.NoError(t, err, "the port is not used")
		require.Equal(t, d, got)
	}
	// A source address that is not this host's, and one without a device.
	_, err = r.Dial(limited(t), netip.MustParseAddrPort("198.51.100.1:0"), netip.AddrPortFrom(all[0].Addrs[0], 80), nil)
	require.Error(t, err)
	t.Log(err)
	_, err = r.Dial(limited(t), netip.MustParseAddrPort("127.0.0.1:0"), netip.AddrPortFrom(all[0].Addrs[0], 80), nil)
	require.Error(t, err)
	t.Log(err)
}

func TestLocalPort(t *testing.T) {
	eachDevice(t, func(t *testing.T, r *rnic.Transport, d transport.Device, addr netip.Addr) {
		l := listen(t, r, addr)
		for _, local := range []netip.AddrPort{netip.AddrPortFrom(addr, 40404), netip.AddrPortFrom(netip.Addr{}, 40405)} {
			c, err := r.Dial(limited(t), local, l.Addr(), nil)
			require.NoError(t, err)
			done := connecting(limited(t), c, nil)
			s, err := l.Accept(limited(t))
			require.NoError(t, err)
			require.NoError(t, s.Accept(limited(t), nil))
			require.NoError(t, (<-done).Err)
			want := netip.AddrPortFrom(addr, local.Port())
			require.Equal(t, want, c.QueuePair().LocalAddr())
			require.Equal(t, want, s.QueuePair().RemoteAddr())

			// Another peer can be reached from the port meanwhile, as with sockets.
			other := listen(t, r, addr)
			c2, err := r.Dial(limited(t), local, other.Addr(), nil)
			require.NoError(t, err)
			done = connecting(limited(t), c2, nil)
			s2, err := other.Accept(limited(t))
			require.NoError(t, err)
			require.NoError(t, s2.Accept(limited(t), nil))
			require.NoError(t, (<-done).Err)
			require.Equal(t, want, s2.QueuePair().RemoteAddr())
			for _, q := range []transport.QueuePair{c.QueuePair(), s.QueuePair(), c2.QueuePair(), s2.QueuePair()} {
				require.NoError(t, q.Abort())
			}
		}
		_, err := r.Dial(limited(t), l.Addr(), listen(t, r, addr).Addr(), nil)
		require.ErrorIs(t, err, syscall.EADDRINUSE, "somebody listens on the port")
	})
}

// TestTOS sets the type of service on both ends.
func TestTOS(t *testing.T) {
	eachDevice(t, func(t *testing.T, _ *rnic.Transport, _ transport.Device, addr netip.Addr) {
		r := rnic.New(&rnic.Config{TOS: 0x28})
		c, s, err := transporttest.Streams(limited(t), r, listen(t, r, addr))
		require.NoError(t, err)
		require.NoError(t, c.Close())
		require.NoError(t, s.Close())
	})
}

// TestRouteNamesSource has the address that connections come from first among the device's.
func TestRouteNamesSource(t *testing.T) {
	eachDevice(t, func(t *testing.T, r *rnic.Transport, d transport.Device, _ netip.Addr) {
		for _, a := range d.Addrs {
			if !a.Is4() {
				continue
			}
			got, err := r.Route(limited(t), netip.AddrPort{}, netip.AddrPortFrom(a, 1))
			require.NoError(t, err)
			require.Equal(t, a, got.Addrs[0], "the host's own address is reached from itself")
			require.ElementsMatch(t, d.Addrs, got.Addrs)
		}
	})
}
