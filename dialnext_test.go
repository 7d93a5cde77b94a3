package iwarp_test

import (
	"context"
	"net"
	"net/http/httptrace"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
)

// TestNextAddressForIWARP tries further addresses of a name where one does not speak iWARP, as
// package net does where one does not connect.
func TestNextAddressForIWARP(t *testing.T) {
	for _, tt := range legacyAnswers {
		t.Run(tt.name, func(t *testing.T) {
			s := newLegacyServer(t, tt.answer)
			port := s.Addr().(*net.TCPAddr).AddrPort().Port()
			second := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 9}), port).String()
			l, err := (&iwarp.ListenConfig{Offload: iwarp.OffloadRequire}).Listen(t.Context(), "tcp", second)
			require.NoError(t, err)
			defer l.Close()
			go echo(l)
			name := "server.test:" + second[len("127.0.0.9:"):]
			try := func(policy iwarp.Offload, limit time.Duration, addrs ...[4]byte) (net.Conn, error) {
				d := iwarp.Dialer{Offload: policy, Resolver: nameServer(addrs...), Timeout: limit, HandshakeTimeout: handshakeTimeout(tt.reason)}
				return d.Dial("tcp", name)
			}
			plain, speaks, dead := [4]byte{127, 0, 0, 1}, [4]byte{127, 0, 0, 9}, [4]byte{127, 0, 0, 8}
			for _, limit := range []time.Duration{0, patience} {
				for _, addrs := range [][][4]byte{{plain, speaks}, {speaks, plain}, {plain, dead, speaks}, {dead, plain, speaks}} {
					c, err := try(iwarp.OffloadRequire, limit, addrs...)
					for n := 0; err != nil && n < 5 && tt.reason == iwarp.ReasonHandshakeTimeout; n++ {
						// The address that does answer has no more time, and the machine may be busy.
						c, err = try(iwarp.OffloadRequire, limit, addrs...)
					}
					require.NoError(t, err, "%v", addrs)
					require.Equal(t, second, c.RemoteAddr().String())
					exchangeWithEcho(t, c, "hello")
					require.NoError(t, c.Close())
				}
			}
			_, err = try(iwarp.OffloadRequire, 0, plain, dead)
			var why *iwarp.OffloadError
			require.ErrorAs(t, err, &why)
			require.Equal(t, tt.reason, why.Reason)
			require.Equal(t, s.Addr().String(), opError(t, err).Addr.String(), "the first error, as of package net")

			iwarp.ForgetPeers()
			for range 2 {
				c, err := try(iwarp.OffloadPrefer, 0, plain, speaks)
				require.NoError(t, err)
				if tt.reason == iwarp.ReasonHandshakeTimeout {
					require.Equal(t, s.Addr().String(), c.RemoteAddr().String(), "one wait is enough")
				} else {
					require.Equal(t, second, c.RemoteAddr().String())
				}
				exchangeWithEcho(t, c, "hello")
				require.NoError(t, c.Close())
			}
		})
	}
}

// TestNextAddressFromOnePort dials the address that speaks iWARP from the port that the user wants,
// even when it is known, and plain TCP when it is gone.
func TestNextAddressFromOnePort(t *testing.T) {
	s := newLegacyServer(t, legacyAnswers[0].answer)
	port := s.Addr().(*net.TCPAddr).AddrPort().Port()
	plain, speaks := [4]byte{127, 0, 0, 1}, [4]byte{127, 0, 0, 9}
	second := netip.AddrPortFrom(netip.AddrFrom4(speaks), port).String()
	l, err := (&iwarp.ListenConfig{Offload: iwarp.OffloadRequire, PortSpace: &iwarp.PortSpace{}}).Listen(t.Context(), "tcp", second)
	require.NoError(t, err)
	go echo(l)
	iwarp.ForgetPeers()
	try := func(want string) {
		t.Helper()
		local, err := net.ResolveTCPAddr("tcp", closedPort(t))
		require.NoError(t, err)
		d := iwarp.Dialer{Offload: iwarp.OffloadPrefer, LocalAddr: local, Resolver: nameServer(plain, speaks), Timeout: patience}
		c, err := d.Dial("tcp", "server.test:"+second[len("127.0.0.9:"):])
		require.NoError(t, err)
		defer cut(c)
		require.Equal(t, want, c.RemoteAddr().String())
		require.Equal(t, local.String(), c.LocalAddr().String())
		exchangeWithEcho(t, c, "hello")
	}
	try(second)
	try(second)
	require.NoError(t, l.Close())
	try(s.Addr().String())
}

// TestLooksNameUpOnce tells net/http/httptrace of one lookup, and makes no other where the first
// address speaks iWARP.
func TestLooksNameUpOnce(t *testing.T) {
	l := listen(t, iwarp.ListenConfig{})
	go echo(l)
	s := newLegacyServer(t, legacyAnswers[0].answer)
	for _, tt := range []struct {
		name    string
		server  net.Listener
		policy  iwarp.Offload
		lookups int32 // one, and another for the other addresses of the name
	}{
		{"never", l, iwarp.OffloadNever, 1},
		{"auto", l, iwarp.OffloadAuto, 1},
		{"prefer", l, iwarp.OffloadPrefer, 1},
		{"require", l, iwarp.OffloadRequire, 1},
		{"prefer, legacy", s, iwarp.OffloadPrefer, 2},
		{"require, legacy", s, iwarp.OffloadRequire, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			iwarp.ForgetPeers()
			resolver, lookups := nameServer([4]byte{127, 0, 0, 1}), new(atomic.Int32)
			dialServer := resolver.Dial
			resolver.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
				lookups.Add(1)
				return dialServer(ctx, network, address)
			}
			var events []string
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
				DNSStart: func(i httptrace.DNSStartInfo) { events = append(events, "start "+i.Host) },
				DNSDone:  func(httptrace.DNSDoneInfo) { events = append(events, "done") },
			})
			_, port, err := net.SplitHostPort(tt.server.Addr().String())
			require.NoError(t, err)
			c, err := (&iwarp.Dialer{Offload: tt.policy, Resolver: resolver, Timeout: patience}).DialContext(ctx, "tcp4", "server.test:"+port)
			if err == nil {
				defer c.Close()
			}
			require.Equal(t, tt.server == s && tt.policy == iwarp.OffloadRequire, err != nil)
			require.Equal(t, []string{"start server.test", "done"}, events)
			require.Equal(t, tt.lookups, lookups.Load())
		})
	}
}
