package soft

import (
	"encoding/binary"

	"github.com/rdmanet/iwarp/transport/internal/pool"
	"github.com/rdmanet/iwarp/transport/soft/internal/mpa"
)

const (
	maxPieces = 8 // as many as writev takes without an allocation

	// refThreshold is the size from which a payload is written from where it lies, not copied to the
	// batch.
	refThreshold = 4 << 10
)

// A batch is a row of whole FPDUs on their way to the kernel: pieces of a pooled buffer that holds
// headers and small payloads, alternating with large payloads that stay where they lie.
type batch struct {
	buf    *[]byte // from the pool; nil while the batch is empty
	used   int     // of buf
	open   int     // start in buf of the piece that still grows
	pieces [maxPieces][]byte
	n      int  // pieces complete
	first  int  // pieces sent
	size   int  // bytes of FPDUs
	sends  int  // entries of the send queue that are sent when the batch is
	refs   bool // payload outside buf
}

func (b *batch) empty() bool { return b.buf == nil }

// begin gives an empty batch room for n bytes of buffer.
func (b *batch) begin(n int) { b.buf = pool.Get(n) }

func (b *batch) room() int { return len(*b.buf) - b.used }

// header appends n bytes of header and returns them.
func (b *batch) header(n int) []byte {
	h := (*b.buf)[b.used : b.used+n]
	b.used += n
	return h
}

// finish completes the FPDU that starts at start in buf. Its header of hdr bytes has been filled in
// after the two bytes of the length; payload follows. With ref the payload is sent from where it
// lies; otherwise there must be room for it.
func (b *batch) finish(start, hdr int, payload []byte, crc, ref bool) {
	ulpdu := hdr + len(payload)
	total := mpa.FPDULen(ulpdu)
	b.size += total
	if !ref {
		copy(b.header(total-mpa.LengthLen-hdr), payload)
		mpa.Seal((*b.buf)[start:b.used], ulpdu, crc)
		return
	}
	head := (*b.buf)[start:b.used]
	binary.BigEndian.PutUint16(head, uint16(ulpdu))
	var sum uint32
	if crc {
		sum = mpa.UpdateCRC(mpa.CRC(head), payload)
	}
	b.pieces[b.n], b.pieces[b.n+1] = (*b.buf)[b.open:b.used], payload
	b.n += 2
	b.open, b.refs = b.used, true
	tail := b.header(mpa.Pad(ulpdu) + mpa.CRCLen)
	pad := tail[:len(tail)-mpa.CRCLen]
	clear(pad)
	if crc {
		sum = mpa.UpdateCRC(sum, pad)
	}
	mpa.PutCRC(tail[len(pad):], sum)
}

// seal closes the last piece; after that the batch can be sent.
func (b *batch) seal() {
	if b.used > b.open {
		b.pieces[b.n] = (*b.buf)[b.open:b.used]
		b.n++
		b.open = b.used
	}
}

// rest returns what is still to be sent.
func (b *batch) rest() [][]byte { return b.pieces[b.first:b.n] }

// sent records n bytes that the kernel took, and reports whether that was all.
func (b *batch) sent(n int) bool {
	for b.first < b.n {
		p := b.pieces[b.first]
		if n < len(p) {
			b.pieces[b.first] = p[n:]
			return false
		}
		n -= len(p)
		b.pieces[b.first] = nil
		b.first++
	}
	return true
}

// reset empties the batch.
func (b *batch) reset() {
	if b.buf != nil {
		pool.Put(b.buf)
	}
	clear(b.pieces[:b.n])
	*b = batch{}
}

// keep moves what is left into one buffer of the batch's own.
func (b *batch) keep() {
	if b.empty() || !b.refs {
		return
	}
	n := 0
	for _, p := range b.rest() {
		n += len(p)
	}
	own := pool.Get(n)
	n = 0
	for _, p := range b.rest() {
		n += copy((*own)[n:], p)
	}
	pool.Put(b.buf)
	clear(b.pieces[:b.n])
	b.buf, b.used, b.open, b.refs = own, n, n, false
	b.pieces[0], b.first, b.n = (*own)[:n], 0, 1
}
