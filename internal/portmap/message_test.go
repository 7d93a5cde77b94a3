package portmap

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func fromHex(t testing.TB, s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	require.NoError(t, err)
	return b
}

var at = netip.MustParseAddrPort

// golden are messages as the layout of the protocol puts them, byte by byte.
var golden = []struct {
	name, bytes string
	message     Message
}{
	{"request", "04 00 9c41 4e35 9c40 0102030405060708" +
		"c0000201 000000000000000000000000 c6336401 000000000000000000000000 c0000202 000000000000000000000000",
		Message{Request, 0, 0x0102030405060708, at("198.51.100.1:20021"), at("192.0.2.1:40000"), at("192.0.2.2:40001")}},
	{"accept", "14 07 0000 4e35 9c40 0102030405060708" +
		"c0000201 000000000000000000000000 c6336401 000000000000000000000000",
		Message{Accept, 7, 0x0102030405060708, at("198.51.100.1:20021"), at("192.0.2.1:40000"), netip.AddrPort{}}},
	{"ack", "24 00 0000 4e35 9c40 ffffffffffffffff" +
		"c0000201 000000000000000000000000 c6336401 000000000000000000000000",
		Message{Ack, 0, ^uint64(0), at("198.51.100.1:20021"), at("192.0.2.1:40000"), netip.AddrPort{}}},
	{"reject", "36 00 0000 4e35 9c40 0000000000000001" +
		"20010db8000000000000000000000001 20010db8000000000000000000000002",
		Message{Reject, 0, 1, at("[2001:db8::2]:20021"), at("[2001:db8::1]:40000"), netip.AddrPort{}}},
}

func TestGolden(t *testing.T) {
	for _, tt := range golden {
		t.Run(tt.name, func(t *testing.T) {
			b := fromHex(t, tt.bytes)
			m, err := Parse(b)
			require.NoError(t, err)
			require.Equal(t, tt.message, m)
			require.Equal(t, b, tt.message.Append(nil))
			require.Equal(t, append([]byte("x"), b...), tt.message.Append([]byte("x")))
		})
	}
}

func TestAnswer(t *testing.T) {
	m := golden[0].message
	require.Equal(t, "14"+strings.Repeat("00", 3)+"4e359c400102030405060708c0000201000000000000000000000000c6336401000000000000000000000000",
		hex.EncodeToString(m.Answer(Accept).Append(nil)))
	require.Equal(t, byte(0x34), m.Answer(Reject).Append(nil)[0])
}

func TestParseErrors(t *testing.T) {
	good := fromHex(t, golden[0].bytes)
	change := func(i int, v byte) []byte {
		b := append([]byte(nil), good...)
		b[i] = v
		return b
	}
	for _, tt := range []struct {
		name string
		b    []byte
		err  error
	}{
		{"empty", nil, ErrSize}, {"short", good[:47], ErrSize}, {"long", append(good, 0), ErrSize},
		{"version", change(0, 0x44), ErrVersion}, {"family", change(0, 0x05), ErrFamily},
	} {
		_, err := Parse(tt.b)
		require.ErrorIs(t, err, tt.err, tt.name)
	}
	m, err := Parse(good[:48])
	require.NoError(t, err)
	require.False(t, m.Mapped.IsValid())
}

func FuzzParse(f *testing.F) {
	for _, g := range golden {
		f.Add(fromHex(f, g.bytes))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Parse(b)
		if err != nil {
			return
		}
		again, err := Parse(m.Append(nil))
		require.NoError(t, err)
		if !m.Mapped.IsValid() {
			again.Mapped = m.Mapped // a Request that lacks it gets one of zeros
		}
		require.Equal(t, m, again)
	})
}
