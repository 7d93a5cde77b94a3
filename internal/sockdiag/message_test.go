package sockdiag

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/internal/netlink"
)

var be = binary.BigEndian

// socketBody makes a struct inet_diag_msg.
func socketBody(family, state byte, local, remote netip.AddrPort, attributes ...byte) []byte {
	b := []byte{family, state, 0, 0}
	b = be.AppendUint16(b, local.Port())
	b = be.AppendUint16(b, remote.Port())
	b = append(b, append(local.Addr().AsSlice(), make([]byte, 16)...)[:16]...)
	b = append(b, append(remote.Addr().AsSlice(), make([]byte, 16)...)[:16]...)
	for _, v := range []uint32{3, 0, 0, 0, 0, 0, 1000, 4711} { // interface, cookie, expires, queues, uid, inode
		b = netlink.Native.AppendUint32(b, v)
	}
	return append(b, attributes...)
}

var (
	v4   = netip.MustParseAddrPort("127.0.0.1:80")
	none = netip.MustParseAddrPort("0.0.0.0:0")
	v6   = netip.MustParseAddrPort("[::]:443")
	v6no = netip.MustParseAddrPort("[::]:0")
)

// v6OnlyAttribute is INET_DIAG_SKV6ONLY with a true value, in its four-byte frame.
func v6OnlyAttribute() []byte {
	b := netlink.Native.AppendUint16(nil, 5)
	b = netlink.Native.AppendUint16(b, 11)
	return append(b, 1, 0, 0, 0)
}

func TestParseSocket(t *testing.T) {
	s, err := parseSocket(socketBody(2, 10, v4, none))
	require.NoError(t, err)
	require.Equal(t, Socket{Local: v4, Remote: none, State: Listening, Interface: 3, UID: 1000, Inode: 4711}, s)
	s, err = parseSocket(socketBody(10, 7, v6, v6no, v6OnlyAttribute()...))
	require.NoError(t, err)
	require.Equal(t, Socket{Local: v6, Remote: v6no, State: Closed, V6Only: true, Interface: 3, UID: 1000, Inode: 4711}, s)
	for name, b := range map[string][]byte{
		"body": make([]byte, 71), "family": socketBody(1, 10, v4, none),
		"attribute": socketBody(2, 10, v4, none, 3, 0, 0, 0), "attribute beyond": socketBody(2, 10, v4, none, 9, 9, 9, 9),
	} {
		_, err := parseSocket(b)
		require.ErrorIs(t, err, netlink.ErrMalformed, name)
	}
}

func TestRequest(t *testing.T) {
	b := request(1<<10, 80)
	require.Len(t, b, 60)
	require.Equal(t, []byte{0, 0, 0, 0, 0, 80}, b[:6])
	require.EqualValues(t, 1<<10, netlink.Native.Uint32(b[52:]))
}

func TestCovers(t *testing.T) {
	for _, tt := range []struct {
		local, wanted   string
		v6only, wanted6 bool
		covers          bool
	}{
		{local: "127.0.0.1", wanted: "127.0.0.1", covers: true}, {local: "127.0.0.1", wanted: "127.0.0.2"},
		{local: "::ffff:127.0.0.1", wanted: "127.0.0.1", covers: true},
		{local: "127.0.0.1", wanted: "0.0.0.0", covers: true}, {local: "0.0.0.0", wanted: "127.0.0.1", covers: true},
		{local: "::", wanted: "127.0.0.1", covers: true}, {local: "::", wanted: "127.0.0.1", v6only: true},
		{local: "127.0.0.1", wanted: "::", covers: true}, {local: "127.0.0.1", wanted: "::", wanted6: true},
		{local: "::1", wanted: "0.0.0.0"}, {local: "::1", wanted: "::", wanted6: true, covers: true}, {local: "0.0.0.0", wanted: "::1"},
	} {
		s := Socket{Local: netip.AddrPortFrom(netip.MustParseAddr(tt.local), 1), V6Only: tt.v6only}
		require.Equal(t, tt.covers, s.Covers(netip.MustParseAddr(tt.wanted), tt.wanted6), "%+v", tt)
	}
}

func FuzzParseSocket(f *testing.F) {
	f.Add(socketBody(2, 10, v4, none))
	f.Add(socketBody(10, 7, v6, v6no, v6OnlyAttribute()...))
	f.Add(socketBody(2, 1, v4, v4))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseSocket(b)
		if err == nil && (!s.Local.IsValid() || !s.Remote.IsValid()) {
			t.Fatal("a socket without an address")
		}
		_ = s.State.String()
	})
}
