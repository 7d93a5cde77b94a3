package netaddr

import (
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOf(t *testing.T) {
	want := netip.MustParseAddrPort("192.0.2.1:80")
	require.Equal(t, want, Of(&net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 80}))
	require.Equal(t, want, Of(TCP(want)))
	for _, a := range []net.Addr{nil, (*net.TCPAddr)(nil), &net.UDPAddr{Port: 80}} {
		require.Zero(t, Of(a))
	}
}

func TestNarrow(t *testing.T) {
	for address, want := range map[string]string{
		"192.0.2.1:80": "tcp4", "[::ffff:192.0.2.1]:80": "tcp4", "[2001:db8::1]:80": "tcp6", "[fe80::1%lo]:80": "tcp6",
		"host:80": "tcp", ":80": "tcp",
	} {
		require.Equal(t, want, Narrow("tcp", address), address)
	}
}

// TestCanonical makes one address of each of its forms.
func TestCanonical(t *testing.T) {
	list, err := net.Interfaces()
	require.NoError(t, err)
	require.NotEmpty(t, list)
	name, index := list[0].Name, uint32(list[0].Index)
	for in, want := range map[string]string{
		"::ffff:192.0.2.1":                "192.0.2.1",
		"2001:db8::1%" + name:             "2001:db8::1",
		"fe80::1%" + name:                 "fe80::1%" + name,
		"fe80::1%" + InterfaceName(1<<30): "fe80::1%1073741824",
	} {
		require.Equal(t, want, Canonical(netip.MustParseAddr(in)).String(), in)
	}
	require.Equal(t, index, ZoneIndex(name))
	require.Equal(t, name, InterfaceName(index))
	require.Zero(t, ZoneIndex(""))
	require.Empty(t, InterfaceName(0))
}

// TestOfHost has every address of an interface that is up once.
func TestOfHost(t *testing.T) {
	all, err := OfHost()
	require.NoError(t, err)
	seen := make(map[netip.Addr]bool)
	for _, a := range all {
		require.False(t, seen[a], a)
		seen[a] = true
		require.False(t, a.Is4In6(), a)
		require.Equal(t, a.Is6() && a.IsLinkLocalUnicast(), a.Zone() != "", a)
	}
}
