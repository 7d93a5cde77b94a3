package iwarp_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
)

// portless are the forms of an address without a port, and with one that is none.
var portless = []string{":0", ":", ":00", ":+0", ": 0", "", ":no-such-service", ":65536", ":-1", ":0x0", ":99999999999999999999", ":0:0"}

var hosts = []string{
	"", "127.0.0.1", "[127.0.0.1]", "0.0.0.0", "localhost", "::1", "[::1]", "[::1%1]", "[::]", "[::%lo]", "[fe80::1]",
	"[::ffff:127.0.0.1]", "[::ffff:0.0.0.0]",
}

// otherNetworks are those that are none of ours, with an address.
var otherNetworks = [][2]string{
	{"", ""}, {"", "127.0.0.1:0"}, {"TCP", "127.0.0.1:0"}, {"tcp5", "127.0.0.1:0"}, {"tcp:", "127.0.0.1:0"}, {"tcp:1", ""}, {"tpc", ""},
	{"udp", ""}, {"udp", "127.0.0.1"}, {"udp", "127.0.0.1:0"}, {"ip", ""}, {"ip", "127.0.0.1"}, {"ip4:no-such-protocol", "127.0.0.1"},
	{"unix", "/no/such/folder/socket"}, {"unixgram", "/no/such/folder/socket"}, {"unixpacket", "/no/such/folder/socket"},
}

// seen is what a caller can see of an outcome: the addresses of what there is, or each error of the
// chain, and the text.
func seen(local, remote net.Addr, err error) string {
	if err == nil {
		return form(local) + " " + form(remote)
	}
	var b strings.Builder
	for e := err; e != nil; e = errors.Unwrap(e) {
		if op, ok := e.(*net.OpError); ok {
			fmt.Fprintf(&b, "%T{%s %s %s %s} ", op, op.Op, op.Net, form(op.Source), form(op.Addr))
			continue
		}
		fmt.Fprintf(&b, "%T ", e)
	}
	return b.String() + err.Error()
}

// form is an address without the ports that the kernel chooses, and with the length of its IP,
// which tells the family.
func form(a net.Addr) string {
	t, ok := a.(*net.TCPAddr)
	if !ok || t == nil {
		return fmt.Sprintf("%T", a)
	}
	return fmt.Sprintf("%v%%%s (%d bytes, port %t)", t.IP, t.Zone, len(t.IP), t.Port != 0)
}

// cut closes a connection without what would hold its port for a minute (TIME_WAIT), where a test
// makes many.
func cut(c net.Conn) {
	if l, ok := c.(interface{ SetLinger(int) error }); ok {
		_ = l.SetLinger(0)
	}
	_ = c.Close()
}

// TestListenAsNet holds what becomes of an address against package net.
func TestListenAsNet(t *testing.T) {
	outcome := func(l net.Listener, err error) string {
		if err != nil {
			return seen(nil, nil, err)
		}
		defer l.Close()
		return seen(l.Addr(), nil, nil)
	}
	try := func(network, address string) {
		want := outcome(net.Listen(network, address))
		for _, policy := range policies {
			lc := iwarp.ListenConfig{Offload: policy, PortSpace: &iwarp.PortSpace{}}
			require.Equal(t, want, outcome(lc.Listen(t.Context(), network, address)), "%v: %q %q", policy, network, address)
		}
	}
	for _, network := range []string{"tcp", "tcp4", "tcp6"} {
		for _, host := range hosts {
			for _, port := range portless {
				try(network, host+port)
			}
		}
		try(network, "192.0.2.1:0")
		try(network, "[2001:db8::1]:0")
	}
	for _, a := range otherNetworks {
		try(a[0], a[1])
	}
}

// TestDialAsNet does the same for a dial, also from each kind of local address, and compares the
// addresses of a connection with those of package net, whose length tells the family of the socket.
func TestDialAsNet(t *testing.T) {
	l, err := iwarp.Listen("tcp", ":0")
	require.NoError(t, err)
	defer l.Close()
	go echo(l)
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)

	outcome := func(c net.Conn, err error) string {
		if err != nil {
			return seen(nil, nil, err)
		}
		defer cut(c)
		return seen(c.LocalAddr(), c.RemoteAddr(), nil)
	}
	try := func(network, address string, local net.Addr) {
		want := outcome((&net.Dialer{LocalAddr: local, Timeout: patience}).Dial(network, address))
		for _, policy := range policies {
			d := iwarp.Dialer{Offload: policy, LocalAddr: local, Timeout: patience}
			require.Equal(t, want, outcome(d.Dial(network, address)), "%v: %q %q from %#v", policy, network, address, local)
		}
	}
	locals := []net.Addr{
		nil, (*net.TCPAddr)(nil), &net.TCPAddr{}, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, &net.TCPAddr{IP: net.IP{127, 0, 0, 1}},
		&net.TCPAddr{IP: net.IPv6loopback}, &net.TCPAddr{IP: net.IPv4zero}, &net.TCPAddr{IP: net.IPv6unspecified},
		&net.TCPAddr{IP: net.IP{1, 2, 3}}, &net.TCPAddr{IP: net.IPv6loopback, Zone: "lo"}, &net.UDPAddr{},
	}
	for _, network := range []string{"tcp", "tcp4", "tcp6"} {
		for _, host := range hosts {
			for _, local := range locals {
				try(network, host+":"+port, local)
				try(network, host+":0"+port, local)
			}
			for _, port := range portless {
				try(network, host+port, nil)
			}
		}
	}
	for _, a := range otherNetworks {
		try(a[0], a[1], nil)
	}
}

// TestAcceptAsNet holds the addresses that a server sees against those that it sees with package
// net.
func TestAcceptAsNet(t *testing.T) {
	for _, tt := range []struct{ network, address, client string }{
		{"tcp", ":0", "127.0.0.1"}, {"tcp", ":0", "::1"}, {"tcp4", ":0", "127.0.0.1"}, {"tcp6", ":0", "::1"}, {"tcp", "127.0.0.1:0", "127.0.0.1"},
	} {
		outcome := func(l net.Listener, err error, d *iwarp.Dialer) string {
			require.NoError(t, err)
			defer l.Close()
			_, port, err := net.SplitHostPort(l.Addr().String())
			require.NoError(t, err)
			_, s := meet(t, l, func() net.Conn {
				c := dialBy(t, d, "tcp", net.JoinHostPort(tt.client, port))
				_, err := io.WriteString(c, "hello")
				noError(t, err)
				return c
			})
			return seen(s.LocalAddr(), s.RemoteAddr(), nil)
		}
		l, err := net.Listen(tt.network, tt.address)
		want := outcome(l, err, &iwarp.Dialer{Offload: iwarp.OffloadNever})
		for _, policy := range policies {
			client := policy
			if policy == iwarp.OffloadAuto {
				client = iwarp.OffloadPrefer
			}
			l, err := (&iwarp.ListenConfig{Offload: policy, PortSpace: &iwarp.PortSpace{}}).Listen(t.Context(), tt.network, tt.address)
			require.Equal(t, want, outcome(l, err, &iwarp.Dialer{Offload: client, Timeout: patience}), "%v %v", policy, tt)
		}
	}
}
