package wire

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	require.NoError(t, err)
	return b
}

// What the C library sends, from two x86 hosts.
const (
	rsocketClient = `01020180 00000000 00005600 00001000 00001300 00000002
	                 00007f00 00100000 00001400 00010000`
	rsocketServer = `01020180 00000000 00005500 00002000 00001600 00000002
	                 00007e00 00200000 00001700 00010000`
)

func TestConnDataOfRsockets(t *testing.T) {
	for _, c := range []struct {
		name, wire string
		want       ConnData
	}{
		{"client", rsocketClient, ConnData{Credits: 384,
			Table: SGE{Addr: 0x560000001000, Key: 0x1300, Length: 2},
			Ring:  SGE{Addr: 0x7f0000100000, Key: 0x1400, Length: 65536}}},
		{"server", rsocketServer, ConnData{Credits: 384,
			Table: SGE{Addr: 0x550000002000, Key: 0x1600, Length: 2},
			Ring:  SGE{Addr: 0x7e0000200000, Key: 0x1700, Length: 65536}}},
		{"big-endian host", strings.Replace(rsocketClient, "0102", "0103", 1), ConnData{Order: bigEndian, Credits: 384,
			Table: SGE{Addr: 0x560000001000, Key: 0x1300, Length: 2},
			Ring:  SGE{Addr: 0x7f0000100000, Key: 0x1400, Length: 65536}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			wire := unhex(t, c.wire)
			got, err := ParseConnData(wire)
			require.NoError(t, err)
			require.Equal(t, &c.want, got)
			require.Equal(t, wire, c.want.Append(nil))
		})
	}
}

func TestConnDataIgnores(t *testing.T) {
	plain := unhex(t, rsocketClient)
	want, err := ParseConnData(plain)
	require.NoError(t, err)
	for _, c := range []struct {
		name   string
		change func(b []byte) []byte
	}{
		{"unknown flags", func(b []byte) []byte { b[1] |= 0xfc; return b }},
		{"an iomap table without the flag", func(b []byte) []byte { b[1] &^= flagIomap; b[7] = 0x81; return b }},
		{"reserved bytes", func(b []byte) []byte { b[4], b[5], b[6] = 1, 2, 3; return b }},
		{"zeros behind", func(b []byte) []byte { return append(b, make([]byte, 16)...) }},
		{"another extension", func(b []byte) []byte { return append(b, "iWAS\x01\x01"...) }},
		{"a later extension", func(b []byte) []byte { return append(b, "iWAR\x02\x01\x01"...) }},
		{"half a magic", func(b []byte) []byte { return append(b, "iWAR\x01"...) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ParseConnData(c.change(append([]byte(nil), plain...)))
			require.NoError(t, err)
			require.Equal(t, want, got)
		})
	}
}

func TestConnDataRefused(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(b []byte) []byte
		want   string
	}{
		{"nothing", func(b []byte) []byte { return nil }, "too short"},
		{"39 bytes", func(b []byte) []byte { return b[:39] }, "too short"},
		{"version 0", func(b []byte) []byte { b[0] = 0; return b }, "version"},
		{"version 2", func(b []byte) []byte { b[0] = 2; return b }, "version"},
		{"table of 1 entry", func(b []byte) []byte { b[23] = 1; return b }, "entries"},
		{"table beyond 64 bits", func(b []byte) []byte { copy(b[8:], "\xff\xff\xff\xff\xff\xff\xff\xf0"); return b }, "64 bits"},
		{"iomap table beyond 64 bits", func(b []byte) []byte {
			copy(b[8:], "\xff\xff\xff\xff\xff\xff\xff\x00")
			b[7] = 16
			return b
		}, "64 bits"},
		{"ring beyond 64 bits", func(b []byte) []byte { copy(b[24:], "\xff\xff\xff\xff\xff\xff\x00\x00"); b[36] = 1; return b }, "64 bits"},
		{"second half beyond 64 bits", func(b []byte) []byte {
			copy(b[24:], "\xff\xff\xff\xff\xff\xff\x00\x00")
			return append(b, "iWAR\x01\x01"...)
		}, "64 bits"},
		{"field without length", func(b []byte) []byte { return append(b, "iWAR\x01\x00\x01"...) }, "cut short"},
		{"field cut short", func(b []byte) []byte { return append(b, "iWAR\x01\x00\x01\x04\x00\x00\x80"...) }, "cut short"},
		{"reason of 2 bytes", func(b []byte) []byte { return append(b, "iWAR\x01\x00\x04\x02\x01\x00"...) }, "1 is needed"},
		{"port of 1 byte", func(b []byte) []byte { return append(b, "iWAR\x01\x00\x02\x01\x80"...) }, "2 are needed"},
		{"service of 3 bytes", func(b []byte) []byte { return append(b, "iWAR\x01\x00\x03\x03\x00\x80\x00"...) }, "2 are needed"},
		{"port of 4 bytes", func(b []byte) []byte { return append(b, "iWAR\x01\x00\x02\x04\x00\x00\x80\x00"...) }, "2 are needed"},
		{"segment of 2 bytes", func(b []byte) []byte { return append(b, "iWAR\x01\x00\x01\x02\x80\x00"...) }, "4 are needed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ParseConnData(c.change(unhex(t, rsocketClient)))
			require.ErrorContains(t, err, c.want)
		})
	}
}

// The number of entries is told in one byte.
func TestScale(t *testing.T) {
	for _, c := range []struct {
		n    int
		b    byte
		back int
	}{{0, 0, 0}, {1, 1, 1}, {16, 16, 16}, {128, 128, 128}, {256, 0x81, 256}, {300, 0x81, 256}, {512, 0x82, 512}, {32767, 0xff, 32512}, {1 << 20, 0xff, 32512}} {
		require.Equal(t, c.b, scale(c.n), "%d entries", c.n)
		require.Equal(t, c.back, unscale(c.b), "byte %#x", c.b)
	}
	for b := 1; b < 256; b++ {
		require.Equal(t, byte(b), scale(unscale(byte(b))))
	}
}

func TestExtension(t *testing.T) {
	d, err := ParseConnData(unhex(t, rsocketClient))
	require.NoError(t, err)
	for _, c := range []struct {
		name, wire string
		want       Extension
	}{
		{"empty", "69574152 01 00", Extension{}},
		{"whole ring", "69574152 01 01", Extension{WholeRing: true}},
		{"segment", "69574152 01 01 01 04 00010000", Extension{WholeRing: true, MaxSegment: 1 << 16}},
		{"redirectable", "69574152 01 02", Extension{Redirectable: true}},
		{"only asks", "69574152 01 06", Extension{Redirectable: true, OnlyAsks: true}},
		{"all of a request", "69574152 01 03 01 04 00010000", Extension{WholeRing: true, Redirectable: true, MaxSegment: 1 << 16}},
		{"wordless", "69574152 01 09 01 04 00010000", Extension{WholeRing: true, Wordless: true, MaxSegment: 1 << 16}},
		{"redirect", "69574152 01 00 02 02 1f90", Extension{Redirect: 8080}},
		{"why", "69574152 01 00 04 01 ff", Extension{Why: 255}},
		{"redirect from a service", "69574152 01 00 02 02 1f90 03 02 0050", Extension{Redirect: 8080, Service: 80}},
		{"service", "69574152 01 01 01 04 00010000 03 02 1f90", Extension{WholeRing: true, MaxSegment: 1 << 16, Service: 8080}},
		{"proof", "69574152 01 00 05 10 00112233445566778899aabbccddeeff", Extension{Proof: Proof(unhex(t, "00112233445566778899aabbccddeeff"))}},
	} {
		t.Run(c.name, func(t *testing.T) {
			wire := append(unhex(t, rsocketClient), unhex(t, c.wire)...)
			got, err := ParseConnData(wire)
			require.NoError(t, err)
			require.Equal(t, &c.want, got.Ext)
			d.Ext = &c.want
			require.Equal(t, wire, d.Append(nil))
		})
	}
	e, err := ParseExtension(unhex(t, "69574152 01 f0 7f 03 010203 01 04 00008000 80 00"))
	require.NoError(t, err)
	require.Equal(t, &Extension{MaxSegment: 1 << 15}, e, "unknown flags and fields must be skipped")
}

// The field that ends as a line does is the last one, and tells nothing.
func TestExtensionEndsLine(t *testing.T) {
	const request = "69574152 01 0b 01 04 00010000 03 02 1f90"
	e := Extension{WholeRing: true, Redirectable: true, Wordless: true, MaxSegment: 1 << 16, Service: 8080}
	want := e
	e.Line = true
	wire := unhex(t, request+"7f 04 0d0a0d0a")
	require.Equal(t, wire, e.Append(nil))
	got, err := ParseExtension(wire)
	require.NoError(t, err)
	require.Equal(t, &want, got)
}

// A field of type 0 ends the extension: what InfiniBand and RoCE fill private data with is no
// field, however long it is.
func TestExtensionEnds(t *testing.T) {
	const fields = "69574152 01 03 01 04 00008000"
	want := &Extension{WholeRing: true, Redirectable: true, MaxSegment: 1 << 15}
	for n := range 300 {
		got, err := ParseExtension(append(unhex(t, fields), make([]byte, n)...))
		require.NoError(t, err, "%d zeros", n)
		require.Equal(t, want, got, "%d zeros", n)
	}
	got, err := ParseExtension(unhex(t, fields+"00 02 02 1f90 ff"))
	require.NoError(t, err)
	require.Equal(t, want, got, "nothing behind the end counts")
}

// RoCE takes 56 bytes in a request. The length of a block with private data is told in one byte by
// some iWARP peers, together with 4 bytes of MPA's.
func TestConnDataFits(t *testing.T) {
	request := ConnData{Ext: &Extension{WholeRing: true, Redirectable: true, MaxSegment: 1 << 16, Service: 1}}
	require.LessOrEqual(t, len(request.Append(nil)), 56)
	request.Ext.Line, request.Ext.Proof = true, Proof{1} // not for RoCE
	require.LessOrEqual(t, len(request.Append(nil)), 251)
	answer := ConnData{Ext: &Extension{WholeRing: true, MaxSegment: 1 << 16, Proof: Proof{1}}}
	require.LessOrEqual(t, len(answer.Append(nil)), 196)
	refusal := Extension{Redirect: 1, Service: 1, Why: 1}
	require.LessOrEqual(t, len(refusal.Append(nil)), 148)
}

func FuzzConnData(f *testing.F) {
	f.Add(unhex(f, rsocketClient))
	f.Add(unhex(f, rsocketServer))
	f.Add(append(unhex(f, rsocketClient), "iWAR\x01\x01\x01\x04\x00\x01\x00\x00"...))
	f.Add(append(unhex(f, rsocketClient), "iWAR\x01\x01\x01\x05\x00"...))
	f.Add(append(unhex(f, rsocketClient), "iWAR\x01\x03\x01\x04\x00\x01\x00\x00\x00\x00\x00\x00"...))
	f.Add(append(unhex(f, rsocketClient), "iWAR\x01\x01\x03\x02\x1f\x90"...))
	f.Add(append(unhex(f, rsocketClient), "iWAR\x01\x09\x01\x04\x00\x01\x00\x00"...))
	f.Add(append(unhex(f, rsocketClient), "iWAR\x01\x02\x02\x02\x1f\x90\x00"...))
	f.Add(append(unhex(f, rsocketClient), "iWAR\x01\x09\x05\x10proof of the host"...))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := ParseConnData(b)
		if err != nil {
			return
		}
		// What was understood survives another trip.
		again, err := ParseConnData(d.Append(nil))
		require.NoError(t, err)
		require.Equal(t, d, again)
		require.GreaterOrEqual(t, d.Table.Length, uint32(2))
	})
}
