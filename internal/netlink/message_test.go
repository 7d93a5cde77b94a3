package netlink

import (
	"bytes"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// message makes a netlink message by the layout of linux/netlink.h.
func message(kind uint16, seq uint32, body ...byte) []byte {
	b := Native.AppendUint32(nil, uint32(16+len(body)))
	b = Native.AppendUint16(b, kind)
	b = Native.AppendUint16(b, 2)
	b = Native.AppendUint32(b, seq)
	b = Native.AppendUint32(b, 0)
	b = append(b, body...)
	return append(b, make([]byte, (4-len(b)%4)%4)...)
}

// code makes the body of an error, or of the end of a dump.
func code(errno int32) []byte { return Native.AppendUint32(nil, uint32(errno)) }

func TestRequest(t *testing.T) {
	b := AppendRequest(nil, 5<<10|15, Ack, 7, AppendAttributes(nil, Uint32(1, 3), Attribute{69, []byte("uverbs\x00")}))
	require.Len(t, b, 16+8+12)
	require.EqualValues(t, 36, Native.Uint32(b))
	require.EqualValues(t, 5<<10|15, Native.Uint16(b[4:]))
	require.EqualValues(t, 1|4, Native.Uint16(b[6:]))
	require.EqualValues(t, 7, Native.Uint32(b[8:]))
	require.EqualValues(t, 8, Native.Uint16(b[16:]))
	require.EqualValues(t, 1, Native.Uint16(b[18:]))
	require.EqualValues(t, 3, Native.Uint32(b[20:]))
	require.EqualValues(t, 11, Native.Uint16(b[24:]), "without the padding")
	require.EqualValues(t, 69, Native.Uint16(b[26:]))
	require.Equal(t, "uverbs\x00\x00", string(b[28:]))
}

func TestParse(t *testing.T) {
	const get = 5<<10 | 1
	b := message(get, 7, 1, 2, 3, 4)
	b = append(b, message(get, 6, 9)...)          // of an older answer
	b = append(b, message(5<<10|5, 7, 9)...)      // to another command
	b = append(b, message(3, 6, code(-19)...)...) // the end of an older answer
	b = append(b, message(get, 7)...)
	var bodies [][]byte
	each := func(b []byte) error { bodies = append(bodies, b); return nil }
	done, err := Parse(b, get, 7, each)
	require.NoError(t, err)
	require.False(t, done)
	require.Equal(t, [][]byte{{1, 2, 3, 4}, {}}, bodies)

	for _, kind := range []uint16{2, 3} {
		done, err = Parse(message(kind, 7, code(0)...), get, 7, each)
		require.NoError(t, err)
		require.True(t, done)
		done, err = Parse(message(kind, 7, code(-22)...), get, 7, each)
		require.ErrorIs(t, err, syscall.EINVAL)
		require.True(t, done)
		require.ErrorAs(t, err, new(Refusal))
	}
	_, err = Parse(message(get, 7), get, 7, func([]byte) error { return os.ErrClosed })
	require.ErrorIs(t, err, os.ErrClosed)
}

func TestParseMalformed(t *testing.T) {
	const get = 5<<10 | 1
	good := message(get, 7, 1, 2, 3, 4)
	short, long := bytes.Clone(good), bytes.Clone(good)
	Native.PutUint32(short, 15)
	Native.PutUint32(long, uint32(len(long)+1))
	negative := bytes.Clone(good)
	Native.PutUint32(negative, 1<<32-4)
	for name, b := range map[string][]byte{
		"header": good[:15], "second header": append(bytes.Clone(good), 0), "length too small": short, "length too large": long,
		"length negative": negative, "error": message(2, 7, 0, 0), "done": message(3, 7),
	} {
		_, err := Parse(b, get, 7, func([]byte) error { return nil })
		require.ErrorIs(t, err, ErrMalformed, name)
	}
}

func TestAttributes(t *testing.T) {
	var got []Attribute
	each := func(a Attribute) error { got = append(got, a); return nil }
	b := AppendAttributes(nil, Attribute{1, []byte{1, 2, 3}})
	b = AppendAttributes(b, Attribute{0x8000 | 2, nil}) // NLA_F_NESTED says nothing about the type
	require.NoError(t, ParseAttributes(append(b, 0, 0, 0), each))
	require.Equal(t, []Attribute{{1, []byte{1, 2, 3}}, {2, []byte{}}}, got)
	require.NoError(t, ParseAttributes(b[:7], each), "without the padding at the end")
	for name, b := range map[string][]byte{"too small": {3, 0, 0, 0}, "too large": {5, 0, 0, 0}} {
		require.ErrorIs(t, ParseAttributes(b, each), ErrMalformed, name)
	}

	for size, ok := range map[int]bool{0: false, 1: true, 2: true, 3: false, 4: true, 5: false, 8: true, 9: false} {
		n, err := Attribute{1, bytes.Repeat([]byte{0xff}, size)}.Number()
		require.Equal(t, ok, err == nil, "%d bytes", size)
		if ok {
			require.Equal(t, uint64(1)<<(8*size)-1, n)
		}
	}
	require.Equal(t, "siw0", Attribute{1, []byte("siw0\x00x")}.Text())
	require.Equal(t, "siw0", Attribute{1, []byte("siw0")}.Text())
	require.Empty(t, Attribute{}.Text())
}

func FuzzParse(f *testing.F) {
	f.Add(message(20, 7, AppendAttributes(nil, Uint32(1, 2), Attribute{3, []byte("lo\x00")})...))
	f.Add(append(message(20, 7), message(3, 7, 0, 0, 0, 0)...))
	f.Add(message(2, 7, code(-2)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		messages := 0
		_, _ = Parse(b, 20, 7, func(body []byte) error {
			if messages++; messages > len(b)/headerSize {
				t.Fatal("more messages than fit")
			}
			return ParseAttributes(body, func(a Attribute) error {
				_, _ = a.Number()
				_ = a.Text()
				return nil
			})
		})
	})
}
