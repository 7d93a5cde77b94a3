package ports_test

import (
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
)

func TestReserveErrors(t *testing.T) {
	taken := reserve(t, nil, "tcp", "127.0.0.1:0").Addr().String()
	for _, tt := range []struct {
		name, network, address string
		is                     error
		text                   string
	}{
		{name: "taken", network: "tcp", address: taken, is: syscall.EADDRINUSE},
		{name: "taken on one address", network: "tcp", address: "0.0.0.0" + taken[len("127.0.0.1"):], is: syscall.EADDRINUSE},
		{name: "foreign address", network: "tcp", address: "192.0.2.1:0", is: syscall.EADDRNOTAVAIL},
		{name: "udp", network: "udp", address: "127.0.0.1:0", text: "unknown network udp"},
		{name: "no port", network: "tcp", address: "127.0.0.1", text: "missing port in address"},
		{name: "bad port", network: "tcp", address: "127.0.0.1:70000", text: "invalid port"},
		{name: "wrong family", network: "tcp6", address: "127.0.0.1:0", text: "no suitable address found"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := iwarp.DefaultPortSpace.Reserve(t.Context(), tt.network, tt.address)
			op := opError(t, err)
			require.Equal(t, "reserve", op.Op)
			require.Equal(t, tt.network, op.Net)
			if tt.is != nil {
				require.ErrorIs(t, err, tt.is)
				require.Equal(t, tt.address, op.Addr.String())
			}
			require.ErrorContains(t, err, tt.text)
		})
	}
}

func TestReserveHoldsPort(t *testing.T) {
	for _, tt := range []struct{ network, address string }{
		{"tcp", "127.0.0.1:0"}, {"tcp4", "127.0.0.1:0"}, {"tcp", "[::1]:0"}, {"tcp6", "[::1]:0"},
		{"tcp", ":0"}, {"tcp", ""}, {"tcp4", ":0"}, {"tcp6", ":0"}, {"tcp", "localhost:0"}, {"tcp", "0.0.0.0:0"},
	} {
		t.Run(tt.network+" "+tt.address, func(t *testing.T) {
			if tt.address == "localhost:0" {
				needLocalhost(t)
			}
			r := reserve(t, nil, tt.network, tt.address)
			a := r.Addr().(*net.TCPAddr)
			require.NotZero(t, a.Port)

			_, err := net.Listen(tt.network, a.String())
			require.ErrorIs(t, err, syscall.EADDRINUSE)
			_, err = iwarp.DefaultPortSpace.Reserve(t.Context(), tt.network, a.String())
			require.ErrorIs(t, err, syscall.EADDRINUSE)

			require.NoError(t, r.Release())
			require.ErrorIs(t, r.Release(), net.ErrClosed)
			_, err = r.Listen()
			require.ErrorIs(t, err, net.ErrClosed)
			l, err := net.Listen(tt.network, a.String())
			require.NoError(t, err)
			require.Equal(t, a.String(), l.Addr().String(), "the same address that package net gives")
			require.NoError(t, l.Close())
		})
	}
}

func TestReservationListen(t *testing.T) {
	r := reserve(t, nil, "tcp", "127.0.0.1:0")
	l, err := r.Listen()
	require.NoError(t, err)
	defer l.Close()
	require.Equal(t, r.Addr(), l.Addr())
	require.ErrorIs(t, r.Release(), net.ErrClosed, "the port belongs to the listener")
	_, err = r.Listen()
	require.ErrorIs(t, err, net.ErrClosed)

	c := dialTCP(t, l)
	s, err := l.Accept()
	require.NoError(t, err)
	defer s.Close()
	require.NoError(t, s.SetDeadline(time.Now().Add(patience)))
	exchange(t, c, s, "hello")

	require.NoError(t, l.SetDeadline(time.Unix(1, 0)))
	_, err = l.Accept()
	require.ErrorContains(t, err, "i/o timeout")
	require.NoError(t, l.Close())
	_, err = l.Accept()
	require.ErrorIs(t, err, net.ErrClosed)
}

func TestPortSpaceControl(t *testing.T) {
	var calls []string
	ps := &iwarp.PortSpace{Control: func(network, address string, c syscall.RawConn) error {
		calls = append(calls, network+" "+address)
		return c.Control(func(uintptr) {})
	}}
	reserve(t, ps, "tcp", "127.0.0.1:0")
	require.Equal(t, "tcp4 127.0.0.1:0", calls[0])

	ps.Control = func(string, string, syscall.RawConn) error { return errTest }
	_, err := ps.Reserve(t.Context(), "tcp", "127.0.0.1:0")
	require.ErrorIs(t, err, errTest)
	require.Equal(t, "reserve", opError(t, err).Op)
}

// TestListenTakesReservation has Listen use the socket that a reservation of its PortSpace holds.
func TestListenTakesReservation(t *testing.T) {
	for _, policy := range policies {
		t.Run(policy.String(), func(t *testing.T) {
			r := reserve(t, nil, "tcp", "127.0.0.1:0")
			other := &iwarp.ListenConfig{Offload: policy, PortSpace: &iwarp.PortSpace{}}
			_, err := other.Listen(t.Context(), "tcp", r.Addr().String())
			require.ErrorIs(t, err, syscall.EADDRINUSE, "the reservation is in another space")

			controlled := ""
			lc := &iwarp.ListenConfig{Offload: policy, Control: func(network, address string, _ syscall.RawConn) error {
				controlled = network + " " + address
				return nil
			}}
			l, err := lc.Listen(t.Context(), "tcp", r.Addr().String())
			require.NoError(t, err)
			defer l.Close()
			require.Equal(t, r.Addr(), l.Addr())
			require.Equal(t, "tcp4 "+r.Addr().String(), controlled)
			require.ErrorIs(t, r.Release(), net.ErrClosed)

			_, err = lc.Listen(t.Context(), "tcp", r.Addr().String())
			require.ErrorIs(t, err, syscall.EADDRINUSE)
			require.Equal(t, "listen", opError(t, err).Op)

			go echo(l)
			c := dial(t, l, policy)
			exchangeWithEcho(t, c, "hello")
		})
	}
	t.Run("control fails", func(t *testing.T) {
		r := reserve(t, nil, "tcp", "127.0.0.1:0")
		lc := &iwarp.ListenConfig{Control: func(string, string, syscall.RawConn) error { return errTest }}
		_, err := lc.Listen(t.Context(), "tcp", r.Addr().String())
		require.ErrorIs(t, err, errTest)
		require.NoError(t, r.Release(), "the port is still held")
	})
}

// TestPanicInControl keeps the port when the function of a Listen or a dial panics.
func TestPanicInControl(t *testing.T) {
	ps := &iwarp.PortSpace{}
	r := reserve(t, ps, "tcp", "127.0.0.1:0")
	taken := func() {
		t.Helper()
		_, err := net.Listen("tcp", r.Addr().String())
		require.ErrorIs(t, err, syscall.EADDRINUSE)
	}
	control := func(string, string, syscall.RawConn) error { panic("of the test") }
	require.Panics(t, func() {
		_, _ = (&iwarp.ListenConfig{PortSpace: ps, Control: control}).Listen(t.Context(), "tcp", r.Addr().String())
	})
	taken()
	require.Panics(t, func() {
		d := &iwarp.Dialer{PortSpace: ps, LocalAddr: r.Addr(), Control: control, Offload: iwarp.OffloadNever}
		_, _ = d.Dial("tcp", "127.0.0.1:1")
	})
	taken()
	addr := r.Addr().(*net.TCPAddr).AddrPort()
	require.Equal(t, []iwarp.PortInfo{{Addr: addr, References: 1}}, ps.Reservations())
	require.NoError(t, r.Release())
	l, err := net.Listen("tcp", r.Addr().String())
	require.NoError(t, err)
	require.NoError(t, l.Close())
}
