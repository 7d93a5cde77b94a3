package soft

import (
	"encoding/binary"
	"sync"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/internal/pool"
	"github.com/rdmanet/iwarp/transport/soft/internal/mpa"
)

const (
	maxPieces = 64 // a batch in FPDUs of 16 KiB

	// refThreshold is the size from which a payload is written from where it lies, not copied to the
	// batch.
	refThreshold = 4 << 10
)

// A batch is a row of whole FPDUs on their way to the kernel: pieces of a pooled buffer that holds
// headers and small payloads, alternating with large payloads that stay where they lie.
type batch struct {
	buf    *[]byte  // from the pool
	used   int      // of buf
	open   int      // start in buf of the piece that still grows
	pieces [][]byte // complete; those of vec where there are several
	vec    *vector  // from the pool; nil while there is one piece at most
	one    [1][]byte
	first  int  // pieces sent
	size   int  // bytes of FPDUs
	sends  int  // entries of the send queue that are sent when the batch is
	refs   bool // payload outside buf
	brief  bool // some of which belongs to the caller again once PostSend returns
}

// A vector is the pieces of a large batch, and what a system call needs to write them.
type vector struct {
	pieces [maxPieces][]byte
	iovs   iovecs
}

var (
	vectors = sync.Pool{New: func() any { return new(vector) }}
	batches = sync.Pool{New: func() any { return new(batch) }}
)

// An output is the batch on its way, which a connection has only while there is one.
type output struct{ *batch }

func (o *output) empty() bool { return o.batch == nil }

// begin makes a batch with room for n bytes of buffer.
func (o *output) begin(n int) {
	o.batch = batches.Get().(*batch)
	o.buf = pool.Get(n)
}

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
	if b.vec == nil {
		b.vec = vectors.Get().(*vector)
		b.pieces = b.vec.pieces[:0]
	}
	b.pieces = append(b.pieces, (*b.buf)[b.open:b.used], payload)
	b.open, b.refs = b.used, true
	tail := b.header(mpa.Pad(ulpdu) + mpa.CRCLen)
	pad := tail[:len(tail)-mpa.CRCLen]
	clear(pad)
	if crc {
		sum = mpa.UpdateCRC(sum, pad)
	}
	mpa.PutCRC(tail[len(pad):], sum)
}

// full reports whether there is no room for another payload that stays where it lies.
func (b *batch) full() bool { return len(b.pieces)+3 > maxPieces }

// seal closes the last piece; after that the batch can be sent.
func (b *batch) seal() {
	if b.used > b.open {
		if b.vec == nil {
			b.pieces = b.one[:0]
		}
		b.pieces = append(b.pieces, (*b.buf)[b.open:b.used])
		b.open = b.used
	}
}

// rest returns what is still to be sent.
func (b *batch) rest() [][]byte { return b.pieces[b.first:] }

// sent records n bytes that the kernel took, and reports whether that was all.
func (b *batch) sent(n int) bool {
	for b.first < len(b.pieces) {
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

// reset gives up the batch, if there is one.
func (o *output) reset() {
	if b := o.batch; b != nil {
		b.giveBack()
		*b = batch{}
		batches.Put(b)
		o.batch = nil
	}
}

// giveBack gives back what came from pools.
func (b *batch) giveBack() {
	pool.Put(b.buf)
	if b.vec != nil {
		clear(b.pieces)
		vectors.Put(b.vec)
	}
}

// keep moves what is left into one buffer of the batch's own, unless nothing of it belongs to the
// callers. With Lent in but, what is lent stays with them.
func (o *output) keep(but transport.Flags) {
	b := o.batch
	if b == nil || !b.refs || but&transport.Lent != 0 && !b.brief {
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
	b.giveBack()
	b.hold(own, (*own)[:n], b.sends)
}

// hold makes rest, which is in buf, all that is to be sent, and the end of that many sends.
func (o *output) hold(buf *[]byte, rest []byte, sends int) {
	o.batch = batches.Get().(*batch)
	o.batch.hold(buf, rest, sends)
}

func (b *batch) hold(buf *[]byte, rest []byte, sends int) {
	*b = batch{buf: buf, used: len(*buf), open: len(*buf), size: len(rest), sends: sends}
	b.one[0] = rest
	b.pieces = b.one[:]
}
