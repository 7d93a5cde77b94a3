package nldev

import (
	"bytes"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// message makes a netlink message by the layout of linux/netlink.h.
func message(kind uint16, seq uint32, body ...byte) []byte {
	b := native.AppendUint32(nil, uint32(16+len(body)))
	b = native.AppendUint16(b, kind)
	b = native.AppendUint16(b, 2)
	b = native.AppendUint32(b, seq)
	b = native.AppendUint32(b, 0)
	b = append(b, body...)
	return append(b, make([]byte, (4-len(b)%4)%4)...)
}

// code makes the body of an error, or of the end of a dump.
func code(errno int32) []byte { return native.AppendUint32(nil, uint32(errno)) }

func TestRequest(t *testing.T) {
	b := appendRequest(nil, commandGetChardev, flagAck, 7, uint32Attribute(1, 3), attribute{69, []byte("uverbs\x00")})
	require.Len(t, b, 16+8+12)
	require.EqualValues(t, 36, native.Uint32(b))
	require.EqualValues(t, 5<<10|15, native.Uint16(b[4:]))
	require.EqualValues(t, 1|4, native.Uint16(b[6:]))
	require.EqualValues(t, 7, native.Uint32(b[8:]))
	require.EqualValues(t, 8, native.Uint16(b[16:]))
	require.EqualValues(t, 1, native.Uint16(b[18:]))
	require.EqualValues(t, 3, native.Uint32(b[20:]))
	require.EqualValues(t, 11, native.Uint16(b[24:]), "without the padding")
	require.EqualValues(t, 69, native.Uint16(b[26:]))
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
	done, err := parse(b, commandGet, 7, each)
	require.NoError(t, err)
	require.False(t, done)
	require.Equal(t, [][]byte{{1, 2, 3, 4}, {}}, bodies)

	for _, kind := range []uint16{2, 3} {
		done, err = parse(message(kind, 7, code(0)...), commandGet, 7, each)
		require.NoError(t, err)
		require.True(t, done)
		done, err = parse(message(kind, 7, code(-22)...), commandGet, 7, each)
		require.ErrorIs(t, err, syscall.EINVAL)
		require.True(t, done)
		require.ErrorContains(t, err, "RDMA netlink: ")
	}
	_, err = parse(message(get, 7), commandGet, 7, func([]byte) error { return os.ErrClosed })
	require.ErrorIs(t, err, os.ErrClosed)
}

func TestParseMalformed(t *testing.T) {
	good := message(5<<10|1, 7, 1, 2, 3, 4)
	short, long := bytes.Clone(good), bytes.Clone(good)
	native.PutUint32(short, 15)
	native.PutUint32(long, uint32(len(long)+1))
	negative := bytes.Clone(good)
	native.PutUint32(negative, 1<<32-4)
	for name, b := range map[string][]byte{
		"header": good[:15], "second header": append(bytes.Clone(good), 0), "length too small": short, "length too large": long,
		"length negative": negative, "error": message(2, 7, 0, 0), "done": message(3, 7),
	} {
		_, err := parse(b, commandGet, 7, func([]byte) error { return nil })
		require.ErrorIs(t, err, errMalformed, name)
	}
}

func TestAttributes(t *testing.T) {
	var got []attribute
	each := func(a attribute) error { got = append(got, a); return nil }
	b := appendAttribute(nil, attribute{1, []byte{1, 2, 3}})
	b = appendAttribute(b, attribute{0x8000 | 2, nil}) // NLA_F_NESTED says nothing about the type
	require.NoError(t, parseAttributes(append(b, 0, 0, 0), each))
	require.Equal(t, []attribute{{1, []byte{1, 2, 3}}, {2, []byte{}}}, got)
	require.NoError(t, parseAttributes(b[:7], each), "without the padding at the end")
	for name, b := range map[string][]byte{"too small": {3, 0, 0, 0}, "too large": {5, 0, 0, 0}} {
		require.ErrorIs(t, parseAttributes(b, each), errMalformed, name)
	}

	for size, ok := range map[int]bool{0: false, 1: true, 2: true, 3: false, 4: true, 5: false, 8: true, 9: false} {
		n, err := attribute{1, bytes.Repeat([]byte{0xff}, size)}.number()
		require.Equal(t, ok, err == nil, "%d bytes", size)
		if ok {
			require.Equal(t, uint64(1)<<(8*size)-1, n)
		}
	}
	require.Equal(t, "siw0", attribute{1, []byte("siw0\x00x")}.text())
	require.Equal(t, "siw0", attribute{1, []byte("siw0")}.text())
	require.Empty(t, attribute{}.text())
}

// TestNumberTooLarge gives every number of a Link a value that it cannot have.
func TestNumberTooLarge(t *testing.T) {
	for _, kind := range []uint16{attributeDeviceIndex, attributePortIndex, attributePortState, attributeNodeType, attributeNetDevIndex, attributeDriver} {
		large := attribute{kind, native.AppendUint64(nil, 1<<32)}
		require.ErrorIs(t, parseLink(appendAttribute(nil, large), new(Link)), errMalformed, kind)
	}
	nested := appendAttribute(nil, attribute{attributeSummaryCount, []byte{1, 2, 3}})
	nested = appendAttribute(nil, attribute{attributeSummaryEntry, nested})
	_, _, err := parseCounts(appendAttribute(nil, attribute{attributeSummary, nested}))
	require.ErrorIs(t, err, errMalformed)
}

func TestStrings(t *testing.T) {
	require.Equal(t, "siw", DriverSIW.String())
	require.Equal(t, "rxe", DriverRXE.String())
	require.Equal(t, "unknown", DriverUnknown.String())
	require.Equal(t, "driver 4294967295", Driver(1<<32-1).String())
	require.Equal(t, "rnic", NodeRNIC.String())
	require.Equal(t, "node type 255", NodeType(255).String())
	require.Equal(t, "ACTIVE", PortActive.String())
	require.Equal(t, "state 6", PortState(6).String())
}

func FuzzParse(f *testing.F) {
	files, err := fs.Glob(captured, "testdata/*.bin")
	require.NoError(f, err)
	for _, file := range files {
		b, err := captured.ReadFile(file)
		require.NoError(f, err)
		f.Add(b, native.Uint16(b[4:])&^clientNLDev, native.Uint32(b[8:]))
	}
	f.Fuzz(func(t *testing.T, b []byte, c uint16, seq uint32) {
		messages := 0
		_, _ = parse(b, command(c), seq, func(body []byte) error {
			if messages++; messages > len(b)/headerSize {
				t.Fatal("more messages than fit")
			}
			var again []byte
			err := parseAttributes(body, func(a attribute) error {
				again = appendAttribute(again, a)
				return nil
			})
			// What was understood is what was there, but for flags and padding.
			if err == nil && (len(again) > align(len(body)) || len(body)-len(again) >= attributeHeaderSize) {
				t.Fatalf("% x became % x", body, again)
			}
			var l, same Link
			if err := parseLink(body, &l); err == nil && (parseLink(again, &same) != nil || l != same) {
				t.Fatalf("%+v became %+v", l, same)
			}
			if strings.ContainsRune(l.Device+l.NetDev+l.Protocol, 0) {
				t.Fatal("a NUL in a name")
			}
			_, _, _ = parseCounts(body)
			return nil
		})
	})
}
