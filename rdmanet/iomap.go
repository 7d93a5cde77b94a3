package rdmanet

import (
	"math"
)

// Iomap is what rsockets calls the placement of bytes in memory of the peer's choice, beside the
// stream. Who exposes memory writes an entry into the table of the peer, which lies behind that for
// the stream, and sends the entry's index in a word. The peer then writes there with the key of the
// entry, and no word at all.
//
// Between two ends of this package a word revokes an entry, and another confirms that: whoever has
// sent the confirmation writes no more to the memory, and what was written before it has arrived
// ahead of it. Only then is the entry used again.
const (
	iomapEntries  = 16 // of our table
	iomapEntryLen = 24
	iomapTableLen = iomapEntries * iomapEntryLen

	iomapIndex     = 1<<16 - 1 // bits of the word's value
	iomapConfirmed = 1 << 28   // bits of the word's value that are not there in rsockets
	iomapRevoked   = 1 << 27
)

// An iomapEntry is memory that can be written by its offsets from offset on.
type iomapEntry struct {
	offset uint64
	sge
}

func (o byteOrder) iomapEntry(b []byte) iomapEntry {
	return iomapEntry{o.uint64(b), o.sge(b[8:])}
}

func (o byteOrder) putIomapEntry(b []byte, e iomapEntry) {
	o.putUint64(b, e.offset)
	o.putSGE(b[8:], e.sge)
}

// has reports whether the byte at off is in e.
func (e *iomapEntry) has(off uint64) bool { return off >= e.offset && off-e.offset < uint64(e.length) }

// scale is how rsockets tells the number of entries in one byte: numbers above 128 by their upper
// bits.
func scale(n int) byte {
	if n <= 1<<7 {
		return byte(n)
	}
	return 1<<7 | byte(min(n, math.MaxInt16)>>8)
}

func unscale(b byte) int {
	if b <= 1<<7 {
		return int(b)
	}
	return int(b&^(1<<7)) << 8
}
