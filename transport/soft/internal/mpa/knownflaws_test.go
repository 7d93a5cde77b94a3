package mpa_test

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport/soft/internal/mpa"
)

// CVE-2026-46043 (rxe): pad and checksum are taken off the length of a packet that is shorter than
// the two. Here each length up to a few FPDUs claims each length of a ULPDU.
func TestCVE2026_46043(t *testing.T) {
	const most = 3 * mpa.MinFPDULen
	claims := []int{mpa.MaxULPDU - 1, mpa.MaxULPDU}
	for n := range most {
		claims = append(claims, n)
	}
	for have := range most + 1 {
		for _, claim := range claims {
			for _, crc := range []bool{false, true} {
				b := make([]byte, have, have+8)
				if have >= mpa.LengthLen {
					binary.BigEndian.PutUint16(b, uint16(claim))
				}
				whole := have == mpa.FPDULen(claim)
				if whole && crc {
					mpa.Seal(b, claim, true)
				}
				ulpdu, err := mpa.CheckFPDU(b, crc)
				if whole {
					require.NoError(t, err)
					require.Len(t, ulpdu, claim)
				} else {
					require.ErrorIs(t, err, mpa.ErrLength, "%d bytes that claim %d", have, claim)
				}
			}
		}
	}
}
