package wire

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWords(t *testing.T) {
	for _, c := range []struct {
		name  string
		op    Opcode
		value uint32
		wire  [WordLen]byte // little-endian
	}{
		{"data of 5 bytes", OpData, 5, [4]byte{0x05, 0, 0, 0}},
		{"largest data", OpData, 1<<29 - 1, [4]byte{0xff, 0xff, 0xff, 0x1f}},
		{"limit of 384", OpLimit, 384, [4]byte{0x80, 0x01, 0, 0x80}},
		{"limit of 391", OpLimit, 391, [4]byte{0x87, 0x01, 0, 0x80}},
		{"iomap entry 3", OpIomap, 3, [4]byte{0x03, 0, 0, 0xc0}},
		{"disconnect", OpCtrl, CtrlDisconnect, [4]byte{0, 0, 0, 0xe0}},
		{"shutdown", OpCtrl, CtrlShutdown, [4]byte{0x02, 0, 0, 0xe0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := MakeWord(c.op, c.value)
			var le, be [WordLen]byte
			LittleEndian.PutUint32(le[:], uint32(w))
			bigEndian.PutUint32(be[:], uint32(w))
			require.Equal(t, c.wire, le)
			require.Equal(t, [4]byte{c.wire[3], c.wire[2], c.wire[1], c.wire[0]}, be)
			for _, got := range []Word{Word(LittleEndian.Uint32(le[:])), Word(bigEndian.Uint32(be[:]))} {
				require.Equal(t, c.op, got.Op())
				require.Equal(t, c.value, got.Value())
			}
		})
	}
}

func TestTableEntries(t *testing.T) {
	s := SGE{Addr: 0x7e0000210000, Key: 0x1700, Length: 65536}
	var b [SGELen]byte
	LittleEndian.PutSGE(b[:], s)
	require.Equal(t, unhex(t, "00002100007e0000 00170000 00000100"), b[:])
	require.Equal(t, s, LittleEndian.SGE(b[:]))
	bigEndian.PutSGE(b[:], s)
	require.Equal(t, unhex(t, "00007e0000210000 00001700 00010000"), b[:])
	require.Equal(t, s, bigEndian.SGE(b[:]))
}

func TestWraps(t *testing.T) {
	const top = 1<<64 - 1
	for _, c := range []struct {
		addr, n uint64
		want    bool
	}{{0, 0, false}, {top, 0, false}, {top, 1, false}, {top, 2, true}, {0, top, false}, {1, top, false}, {2, top, true}} {
		require.Equal(t, c.want, Wraps(c.addr, c.n), "%#x+%#x", c.addr, c.n)
	}
}
