package mpa_test

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport/soft/internal/mpa"
	"github.com/rdmanet/iwarp/transport/soft/internal/wiretest"
)

// The test vectors of RFC 3720, appendix B.4: iSCSI digests are the same CRC in
// the same byte order.
func TestCRCVectors(t *testing.T) {
	up, down := make([]byte, 32), make([]byte, 32)
	for i := range up {
		up[i], down[i] = byte(i), byte(31-i)
	}
	tests := []struct {
		name string
		data []byte
		want string
	}{
		{"nothing", nil, "00000000"},
		{"zeros", make([]byte, 32), "aa36918a"},
		{"ones", bytes.Repeat([]byte{0xff}, 32), "43aba862"},
		{"incrementing", up, "4e79dd46"},
		{"decrementing", down, "5cdb3f11"},
		{"iSCSI SCSI Read command", wiretest.Hex(`01c00000 00000000 00000000 00000000 14000000 00000400
			00000014 00000018 28000000 00000000 02000000 00000000`), "563a96d9"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			field := make([]byte, mpa.CRCLen)
			mpa.PutCRC(field, mpa.CRC(tt.data))
			require.Equal(t, tt.want, hex.EncodeToString(field))
		})
	}
}

// bitwise is CRC32C as its definition has it, one bit at a time.
func bitwise(p []byte) uint32 {
	crc := ^uint32(0)
	for _, b := range p {
		crc ^= uint32(b)
		for range 8 {
			crc = crc>>1 ^ -(crc&1)&0x82f63b78
		}
	}
	return ^crc
}

func TestCRCAgainstDefinition(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for n := range 300 {
		p := make([]byte, n)
		for i := range p {
			p[i] = byte(random.Uint32())
		}
		require.Equal(t, bitwise(p), mpa.CRC(p), n)
		cut := random.IntN(n + 1)
		require.Equal(t, bitwise(p), mpa.UpdateCRC(mpa.UpdateCRC(0, p[:cut]), p[cut:]), n)
	}
}
