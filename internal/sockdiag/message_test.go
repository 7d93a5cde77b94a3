package sockdiag

import (
	"encoding/binary"
	"net/netip"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

var be = binary.BigEndian

// message makes a netlink message by the layout of linux/netlink.h.
func message(kind uint16, seq uint32, body []byte) []byte {
	b := native.AppendUint32(nil, uint32(16+len(body)))
	b = native.AppendUint16(b, kind)
	b = native.AppendUint16(b, 2)
	b = native.AppendUint32(b, seq)
	b = native.AppendUint32(b, 0)
	b = append(b, body...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

// socketBody makes a struct inet_diag_msg.
func socketBody(family, state byte, local, remote netip.AddrPort, attributes ...byte) []byte {
	b := []byte{family, state, 0, 0}
	b = be.AppendUint16(b, local.Port())
	b = be.AppendUint16(b, remote.Port())
	b = append(b, append(local.Addr().AsSlice(), make([]byte, 16)...)[:16]...)
	b = append(b, append(remote.Addr().AsSlice(), make([]byte, 16)...)[:16]...)
	for _, v := range []uint32{3, 0, 0, 0, 0, 0, 1000, 4711} { // interface, cookie, expires, queues, uid, inode
		b = native.AppendUint32(b, v)
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
	b := native.AppendUint16(nil, 5)
	b = native.AppendUint16(b, 11)
	return append(b, 1, 0, 0, 0)
}

func TestParse(t *testing.T) {
	b := message(20, 7, socketBody(2, 10, v4, none))
	b = append(b, message(20, 7, socketBody(10, 7, v6, v6no, v6OnlyAttribute()...))...)
	b = append(b, message(20, 6, socketBody(2, 10, v4, none))...) // of an older answer
	list, done, err := parse(nil, b, 7)
	require.NoError(t, err)
	require.False(t, done)
	require.Equal(t, []Socket{
		{Local: v4, Remote: none, State: Listening, Interface: 3, UID: 1000, Inode: 4711},
		{Local: v6, Remote: v6no, State: Closed, V6Only: true, Interface: 3, UID: 1000, Inode: 4711},
	}, list)
	_, done, err = parse(nil, message(3, 7, make([]byte, 4)), 7)
	require.NoError(t, err)
	require.True(t, done)
	refused := int32(-2)
	_, done, err = parse(nil, message(2, 7, native.AppendUint32(nil, uint32(refused))), 7)
	require.ErrorIs(t, err, syscall.ENOENT)
	require.True(t, done)
}

func TestParseMalformed(t *testing.T) {
	good := message(20, 7, socketBody(2, 10, v4, none))
	short := append([]byte(nil), good...)
	native.PutUint32(short, 15)
	long := append([]byte(nil), good...)
	native.PutUint32(long, uint32(len(long)+1))
	for name, b := range map[string][]byte{
		"header": good[:15], "length too small": short, "length too large": long, "body": message(20, 7, make([]byte, 71)),
		"family": message(20, 7, socketBody(1, 10, v4, none)), "error": message(2, 7, nil),
		"attribute": message(20, 7, socketBody(2, 10, v4, none, 3, 0, 0, 0)), "attribute beyond": message(20, 7, socketBody(2, 10, v4, none, 9, 9, 9, 9)),
	} {
		_, _, err := parse(nil, b, 7)
		require.ErrorIs(t, err, errMalformed, name)
	}
}

func TestRequest(t *testing.T) {
	b := appendRequest(nil, 2, 1<<10, 80, 7)
	require.Len(t, b, 72)
	require.EqualValues(t, 72, native.Uint32(b))
	require.EqualValues(t, 20, native.Uint16(b[4:]))
	require.EqualValues(t, 0x301, native.Uint16(b[6:]))
	require.Equal(t, []byte{2, 6, 0, 0}, b[16:20])
	require.EqualValues(t, 1<<10, native.Uint32(b[20:]))
	require.Equal(t, []byte{0, 80}, b[24:26])
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

func FuzzParse(f *testing.F) {
	f.Add(message(20, 7, socketBody(2, 10, v4, none)))
	f.Add(message(20, 7, socketBody(10, 7, v6, v6no, v6OnlyAttribute()...)))
	f.Add(append(message(20, 7, socketBody(2, 1, v4, v4)), message(3, 7, make([]byte, 4))...))
	f.Add(message(2, 7, native.AppendUint32(nil, ^uint32(1))))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, _, err := parse(nil, b, 7)
		if len(list) > len(b)/(headerSize+messageSize) {
			t.Fatal("more sockets than fit")
		}
		for _, s := range list {
			if !s.Local.IsValid() || !s.Remote.IsValid() {
				t.Fatal("a socket without an address")
			}
			_ = s.State.String()
		}
		_ = err
	})
}
