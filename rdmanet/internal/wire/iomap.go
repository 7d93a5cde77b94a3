package wire

import "math"

// Iomap is what rsockets calls the placement of bytes in memory of the peer's choice, beside the
// stream. Whoever exposes memory writes an entry into the table of the peer, which lies after the
// one for the stream, and sends the entry's index in a word. The peer then writes there with the
// key of the entry, without any word.
//
// Between two ends of package rdmanet a word revokes an entry, and another confirms that: whoever
// has sent the confirmation writes no more to the memory, and what was written before it has
// arrived ahead of it. Only then is the entry used again.
const (
	IomapEntries  = 16 // of our table
	IomapEntryLen = 24
	IomapTableLen = IomapEntries * IomapEntryLen

	IomapIndex     = 1<<16 - 1 // bits of the word's value
	IomapConfirmed = 1 << 28   // bits of the word's value that rsockets do not have
	IomapRevoked   = 1 << 27
)

// An IomapEntry is memory that can be written by its offsets from Offset on.
type IomapEntry struct {
	Offset uint64
	SGE
}

// IomapEntry returns what is at the start of b.
func (o Order) IomapEntry(b []byte) IomapEntry {
	return IomapEntry{o.uint64(b), o.SGE(b[8:])}
}

// PutIomapEntry puts e at the start of b.
func (o Order) PutIomapEntry(b []byte, e IomapEntry) {
	o.putUint64(b, e.Offset)
	o.PutSGE(b[8:], e.SGE)
}

// Has reports whether the byte at off is in e.
func (e *IomapEntry) Has(off uint64) bool { return off >= e.Offset && off-e.Offset < uint64(e.Length) }

// scale is how rsockets puts the number of entries in one byte: numbers above 128 by their upper
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
