package mpa

import (
	"encoding/binary"

	"github.com/rdmanet/iwarp/internal/crc32c"
)

// CRC returns the CRC32C of p. An FPDU's covers everything before its CRC field:
// ULPDU_Length, ULPDU and pad (RFC 5044, section 4.4).
func CRC(p []byte) uint32 { return crc32c.Update(0, p) }

// UpdateCRC returns the CRC32C of the bytes that gave crc followed by p. The CRC
// of no bytes is 0, so UpdateCRC(0, p) is CRC(p).
func UpdateCRC(crc uint32, p []byte) uint32 { return crc32c.Update(crc, p) }

// PutCRC stores crc in the first CRCLen bytes of b in wire order, which is
// little-endian, unlike every other field.
func PutCRC(b []byte, crc uint32) { binary.LittleEndian.PutUint32(b, crc) }

// GetCRC returns what PutCRC has stored in b.
func GetCRC(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }
