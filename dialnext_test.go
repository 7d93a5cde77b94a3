package iwarp_test

import (
	"cmp"
	"context"
	"net"
	"net/http/httptrace"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/soft"
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

// TestLooksNameUpOnce makes one lookup for a dial, whatever becomes of it, as package net does, and
// tells net/http/httptrace of it. The resolver answers no other.
func TestLooksNameUpOnce(t *testing.T) {
	l := listen(t, iwarp.ListenConfig{})
	go echo(l)
	s := newLegacyServer(t, legacyAnswers[0].answer)
	type dialer interface {
		DialContext(ctx context.Context, network, address string) (net.Conn, error)
	}
	by := func(policy iwarp.Offload, ts ...transport.Transport) func(*net.Resolver) dialer {
		return func(r *net.Resolver) dialer {
			return &iwarp.Dialer{Offload: policy, Resolver: r, Timeout: patience, Transports: ts}
		}
	}
	refuses, absent := newNIC(), newNIC()
	absent.absent = true
	for _, tt := range []struct {
		name   string
		server net.Listener
		rules  string
		dialer func(*net.Resolver) dialer
		fails  bool
	}{
		{name: "net", server: l, dialer: func(r *net.Resolver) dialer { return &net.Dialer{Resolver: r, Timeout: patience} }},
		{name: "never", server: l, dialer: by(iwarp.OffloadNever)},
		{name: "auto", server: l, dialer: by(iwarp.OffloadAuto)},
		{name: "prefer", server: l, dialer: by(iwarp.OffloadPrefer)},
		{name: "require", server: l, dialer: by(iwarp.OffloadRequire)},
		{name: "prefer, legacy", server: s, dialer: by(iwarp.OffloadPrefer)},
		{name: "require, legacy", server: s, dialer: by(iwarp.OffloadRequire), fails: true},
		{name: "auto, device", server: s, dialer: by(iwarp.OffloadAuto, refuses)},
		{name: "prefer, device", server: s, dialer: by(iwarp.OffloadPrefer, refuses, soft.New(nil))},
		{name: "prefer, device alone", server: s, dialer: by(iwarp.OffloadPrefer, refuses)},
		{name: "require, device", server: s, dialer: by(iwarp.OffloadRequire, refuses, soft.New(nil)), fails: true},
		{name: "device", server: s, dialer: by(iwarp.OffloadDevice, refuses), fails: true},
		{name: "auto, no device", server: s, dialer: by(iwarp.OffloadAuto, absent)},
		{name: "rules", server: s, rules: "never,10.0.0.0/8=prefer", dialer: by(iwarp.OffloadAuto)},
		{name: "rules, prefer", server: s, rules: "never,127.0.0.0/8=prefer", dialer: by(iwarp.OffloadAuto)},
		{name: "rules, device", server: s, rules: "never,127.0.0.0/8=auto", dialer: by(iwarp.OffloadAuto, refuses)},
		{name: "rules that differ", server: s, rules: "never,127.0.0.1=prefer", dialer: by(iwarp.OffloadAuto)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			iwarp.ForgetPeers()
			t.Setenv("IWARP_OFFLOAD", tt.rules)
			resolver, lookups := answersOnce(t, nameServer([4]byte{127, 0, 0, 1}, [4]byte{127, 0, 0, 9}))
			dialServer := resolver.Dial
			resolver.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
				if c, err := new(net.Dialer).DialContext(ctx, "udp", "127.0.0.1:53"); assert.NoError(t, err) { // of which nobody is told
					_ = c.Close()
				}
				return dialServer(ctx, network, address)
			}
			var events []string
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
				DNSStart: func(i httptrace.DNSStartInfo) { events = append(events, "start "+i.Host) },
				DNSDone:  func(httptrace.DNSDoneInfo) { events = append(events, "done") },
				ConnectStart: func(network, _ string) {
					if network == "udp" {
						t.Error("told of a connection to a name server")
					}
				},
			})
			_, port, err := net.SplitHostPort(tt.server.Addr().String())
			require.NoError(t, err)
			c, err := tt.dialer(resolver).DialContext(ctx, "tcp4", "server.test:"+port)
			if err == nil {
				defer c.Close()
				require.Equal(t, tt.server.Addr().String(), c.RemoteAddr().String())
			}
			require.Equal(t, tt.fails, err != nil, "%v", err)
			require.Equal(t, []string{"start server.test", "done"}, events)
			require.EqualValues(t, 1, lookups.Load())
		})
	}
}

// answersOnce has r answer the first lookup alone, and counts them.
func answersOnce(t *testing.T, r *net.Resolver) (_ *net.Resolver, lookups *atomic.Int32) {
	lookups = new(atomic.Int32)
	dialServer := r.Dial
	r.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		if lookups.Add(1) > 1 {
			c, other := net.Pipe()
			t.Cleanup(func() { _ = other.Close() })
			return c, nil
		}
		return dialServer(ctx, network, address)
	}
	return r, lookups
}

// TestLaterLookupStalls goes on without the other addresses of a name where they would have to be
// looked up again, as for a dial from one port.
func TestLaterLookupStalls(t *testing.T) {
	defer iwarp.SetAnswerSlack(50 * time.Millisecond)()
	s := newLegacyServer(t, legacyAnswers[0].answer)
	resolver, lookups := answersOnce(t, nameServer([4]byte{127, 0, 0, 1}))
	local, err := net.ResolveTCPAddr("tcp", closedPort(t))
	require.NoError(t, err)
	_, port, err := net.SplitHostPort(s.Addr().String())
	require.NoError(t, err)
	d := iwarp.Dialer{Offload: iwarp.OffloadPrefer, Resolver: resolver, LocalAddr: local}
	began := time.Now()
	c, err := d.Dial("tcp4", "server.test:"+port)
	require.NoError(t, err)
	defer cut(c)
	require.Less(t, time.Since(began), 5*time.Second, "in which a resolver gives up")
	require.EqualValues(t, 2, lookups.Load())
	exchangeWithEcho(t, c, "hello")
}

// TestSameAddressesAsNet connects to the address of a name that package net does, or fails as it
// does.
func TestSameAddressesAsNet(t *testing.T) {
	s := newLegacyServer(t, legacyAnswers[0].answer)
	_, port, err := net.SplitHostPort(s.Addr().String())
	require.NoError(t, err)
	up, down, other := [4]byte{127, 0, 0, 1}, [4]byte{127, 0, 0, 8}, [4]byte{127, 0, 0, 9}
	six := &net.TCPAddr{IP: net.IPv6loopback}
	for _, tt := range []struct {
		name    string
		addrs   [][4]byte
		network string
		local   net.Addr
		service string
		timeout time.Duration
	}{
		{name: "first", addrs: [][4]byte{up, down}},
		{name: "last", addrs: [][4]byte{down, other, up}},
		{name: "none", addrs: [][4]byte{down, other}},
		{name: "no such name"},
		{name: "no such family", addrs: [][4]byte{up}, network: "tcp6"},
		{name: "from the other family", addrs: [][4]byte{up, down}, local: six},
		{name: "from an address", addrs: [][4]byte{down, up}, local: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 3)}},
		{name: "from any address", addrs: [][4]byte{down, up}, local: &net.TCPAddr{IP: net.IPv6zero}},
		{name: "no such service", addrs: [][4]byte{up}, service: "nosuch"},
		{name: "no time", addrs: [][4]byte{up}, timeout: -1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			network, address := cmp.Or(tt.network, "tcp"), "server.test:"+cmp.Or(tt.service, port)
			n := net.Dialer{Resolver: nameServer(tt.addrs...), LocalAddr: tt.local, Timeout: cmp.Or(tt.timeout, patience)}
			want, wantErr := n.Dial(network, address)
			if wantErr == nil {
				defer want.Close()
			}
			for _, d := range []iwarp.Dialer{
				{Offload: iwarp.OffloadPrefer}, {Offload: iwarp.OffloadRequire}, {Transports: []transport.Transport{newNIC()}},
			} {
				iwarp.ForgetPeers()
				d.Resolver, d.LocalAddr, d.Timeout = n.Resolver, n.LocalAddr, n.Timeout
				c, err := d.Dial(network, address)
				if wantErr != nil {
					requireSameError(t, wantErr, err)
					continue
				}
				if d.Offload == iwarp.OffloadRequire {
					require.Equal(t, want.RemoteAddr().String(), opError(t, err).Addr.String())
					continue
				}
				require.NoError(t, err)
				require.Equal(t, want.RemoteAddr().String(), c.RemoteAddr().String())
				require.NoError(t, c.Close())
			}
		})
	}
}
