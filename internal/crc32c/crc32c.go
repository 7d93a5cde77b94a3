// Package crc32c computes CRC-32C, which is the CRC of MPA (RFC 5044 §4.4), as hash/crc32 does, and
// faster where the processor multiplies polynomials in wide registers.
package crc32c

import "hash/crc32"

var table = crc32.MakeTable(crc32.Castagnoli)

// Update returns the CRC of the bytes that gave crc followed by p. The CRC of no bytes is 0.
func Update(crc uint32, p []byte) uint32 {
	if n := folded(len(p)); n > 0 {
		crc = fold(crc, p[:n])
		p = p[n:]
	}
	return crc32.Update(crc, table, p)
}
