package rdmanet

import "encoding/binary"

// A word is the payload of a Send: an operation in the upper 3 bits and its value in the other 29.
type word uint32

type opcode uint8

const (
	opData  opcode = 0 // value: bytes of stream that have been placed
	opLimit opcode = 4 // value: messages that may be sent in all, modulo 2^16
	opIomap opcode = 6 // value: index of an entry of the iomap table
	opCtrl  opcode = 7 // value: one of the ctrl constants
)

const (
	ctrlDisconnect = 0
	ctrlShutdown   = 2
	ctrlUnread     = 4 // before ctrlDisconnect, between two of this package: the sender has not read all
)

const (
	wordLen   = 4
	valueBits = 29
	maxValue  = 1<<valueBits - 1
)

func makeWord(op opcode, value uint32) word { return word(op)<<valueBits | word(value&maxValue) }

func (w word) op() opcode    { return opcode(w >> valueBits) }
func (w word) value() uint32 { return uint32(w) & maxValue }

// byteOrder is the order of words and of table entries, which the peers settle when they connect.
type byteOrder bool

const (
	littleEndian byteOrder = false
	bigEndian    byteOrder = true
)

func (o byteOrder) uint32(b []byte) uint32 {
	if o == bigEndian {
		return binary.BigEndian.Uint32(b)
	}
	return binary.LittleEndian.Uint32(b)
}

func (o byteOrder) uint64(b []byte) uint64 {
	if o == bigEndian {
		return binary.BigEndian.Uint64(b)
	}
	return binary.LittleEndian.Uint64(b)
}

func (o byteOrder) putUint32(b []byte, v uint32) {
	if o == bigEndian {
		binary.BigEndian.PutUint32(b, v)
		return
	}
	binary.LittleEndian.PutUint32(b, v)
}

func (o byteOrder) putUint64(b []byte, v uint64) {
	if o == bigEndian {
		binary.BigEndian.PutUint64(b, v)
		return
	}
	binary.LittleEndian.PutUint64(b, v)
}
