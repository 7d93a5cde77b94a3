package ports

import (
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/internal/bound"
)

// TestListensLooksUp has a Space with many ports, of which a query concerns one.
func TestListensLooksUp(t *testing.T) {
	sp := &Space{}
	for port := 1; port <= 8000; port++ {
		for _, b := range []bound.Binding{
			{Addr: netip.MustParseAddr("127.0.0.1")}, {Addr: netip.IPv6Unspecified(), Only6: true},
		} {
			sp.add(&Reservation{addr: net.TCPAddr{IP: b.Addr.AsSlice(), Port: port}, at: b, socket: &bound.Socket{}, listens: true})
		}
	}
	for _, test := range []struct {
		addr  string
		netns uint64
		want  bool
	}{
		{"127.0.0.1:7999", 0, true},
		{"[::ffff:127.0.0.1]:7999", 0, true},
		{"127.0.0.2:7999", 0, false},
		{"[::1]:7999", 0, true},
		{"[fe80::1%lo]:7999", 0, true},
		{"127.0.0.1:8001", 0, false},
		{"127.0.0.1:7999", 7, false},
	} {
		a := netip.MustParseAddrPort(test.addr)
		require.Equal(t, test.want, sp.listens(a, test.netns), "%v in %d", a, test.netns)
		allocs := testing.AllocsPerRun(10, func() { sp.listens(a, test.netns) })
		require.Less(t, allocs, 10.0, "as many as for one port")
	}
}
