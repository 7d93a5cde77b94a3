package rdmanet

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWords(t *testing.T) {
	for _, c := range []struct {
		name  string
		op    opcode
		value uint32
		wire  [wordLen]byte // little-endian
	}{
		{"data of 5 bytes", opData, 5, [4]byte{0x05, 0, 0, 0}},
		{"largest data", opData, 1<<29 - 1, [4]byte{0xff, 0xff, 0xff, 0x1f}},
		{"limit of 384", opLimit, 384, [4]byte{0x80, 0x01, 0, 0x80}},
		{"limit of 391", opLimit, 391, [4]byte{0x87, 0x01, 0, 0x80}},
		{"iomap entry 3", opIomap, 3, [4]byte{0x03, 0, 0, 0xc0}},
		{"disconnect", opCtrl, ctrlDisconnect, [4]byte{0, 0, 0, 0xe0}},
		{"shutdown", opCtrl, ctrlShutdown, [4]byte{0x02, 0, 0, 0xe0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := makeWord(c.op, c.value)
			var le, be [wordLen]byte
			littleEndian.putUint32(le[:], uint32(w))
			bigEndian.putUint32(be[:], uint32(w))
			require.Equal(t, c.wire, le)
			require.Equal(t, [4]byte{c.wire[3], c.wire[2], c.wire[1], c.wire[0]}, be)
			for _, got := range []word{word(littleEndian.uint32(le[:])), word(bigEndian.uint32(be[:]))} {
				require.Equal(t, c.op, got.op())
				require.Equal(t, c.value, got.value())
			}
		})
	}
}

func TestTableEntries(t *testing.T) {
	s := sge{addr: 0x7e0000210000, key: 0x1700, length: 65536}
	var b [sgeLen]byte
	littleEndian.putSGE(b[:], s)
	require.Equal(t, unhex(t, "00002100007e0000 00170000 00000100"), b[:])
	require.Equal(t, s, littleEndian.sge(b[:]))
	bigEndian.putSGE(b[:], s)
	require.Equal(t, unhex(t, "00007e0000210000 00001700 00010000"), b[:])
	require.Equal(t, s, bigEndian.sge(b[:]))
}

func TestWraps(t *testing.T) {
	const top = 1<<64 - 1
	for _, c := range []struct {
		addr, n uint64
		want    bool
	}{{0, 0, false}, {top, 0, false}, {top, 1, false}, {top, 2, true}, {0, top, false}, {1, top, false}, {2, top, true}} {
		require.Equal(t, c.want, wraps(c.addr, c.n), "%#x+%#x", c.addr, c.n)
	}
}
