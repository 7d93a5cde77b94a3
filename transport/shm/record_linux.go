package shm

import "sync/atomic"

// A record is a header of four words and its payload, filled up to a multiple of the header's
// size. Messages that the ring has no room for at once come in several.
const (
	headerLen = 32
	maxPiece  = 16 << 10 // bytes of payload in a record: the peer may find a better place for the next ones
)

type opcode uint8

const (
	opSkip         opcode = iota // the next record is at the start of the ring
	opWrite                      // payload for stag, from offset on
	opSend                       // payload of a Send, or the next part of it
	opReadRequest                // for size bytes of stag, from offset on
	opReadResponse               // payload of the answer to the oldest request, or the next part of it
	opEnd
)

const (
	flagLast       = 1 << iota // of a message
	flagSolicited              // a Send asks for an event
	flagInvalidate             // a Send revokes stag
)

type header struct {
	op     opcode
	flags  uint8
	length uint32 // of the payload
	stag   uint32
	size   uint32
	offset uint64
}

// recordLen is how many bytes of a ring a record with n bytes of payload takes.
func recordLen(n uint64) uint64 { return headerLen + (n+headerLen-1)&^(headerLen-1) }

// putHeader writes h at pos.
func (s *segment) putHeader(pos uint64, h *header) {
	w := [3]uint64{uint64(h.length) | uint64(h.op)<<32 | uint64(h.flags)<<40, uint64(h.stag) | uint64(h.size)<<32, h.offset}
	for i := range w {
		*s.word(pos + 8*uint64(i)) = w[i]
	}
}

// header reads a header at pos, each word once.
func (s *segment) header(pos uint64) header {
	var w [3]uint64
	for i := range w {
		w[i] = atomic.LoadUint64(s.word(pos + 8*uint64(i)))
	}
	return header{
		length: uint32(w[0]), op: opcode(w[0] >> 32), flags: uint8(w[0] >> 40),
		stag: uint32(w[1]), size: uint32(w[1] >> 32), offset: w[2],
	}
}
