package wire

import "encoding/binary"

// A Word is the payload of a Send: an operation in the upper 3 bits and its value in the other 29.
type Word uint32

// An Opcode says what a word is about.
type Opcode uint8

const (
	OpData  Opcode = 0 // value: bytes of stream that have been placed
	OpLimit Opcode = 4 // value: messages that may be sent in all, modulo 2^16
	OpIomap Opcode = 6 // value: index of an entry of the iomap table
	OpCtrl  Opcode = 7 // value: one of the Ctrl constants
)

// Values of OpCtrl.
const (
	CtrlDisconnect = 0
	CtrlShutdown   = 2
	CtrlUnread     = 4 // before CtrlDisconnect, between two ends of package rdmanet: the sender has not read everything
)

const (
	WordLen   = 4 // bytes of a word
	valueBits = 29
	MaxValue  = 1<<valueBits - 1 // the largest value of a word
)

// MakeWord returns the word of op and value.
func MakeWord(op Opcode, value uint32) Word { return Word(op)<<valueBits | Word(value&MaxValue) }

// Op returns what w is about.
func (w Word) Op() Opcode { return Opcode(w >> valueBits) }

// Value returns what w says about that.
func (w Word) Value() uint32 { return uint32(w) & MaxValue }

// An Order is the byte order of words and of table entries, which the peers settle when they
// connect.
type Order bool

// The two orders.
const (
	LittleEndian Order = false
	bigEndian    Order = true
)

// Uint32 returns the number at the start of b.
func (o Order) Uint32(b []byte) uint32 {
	if o == bigEndian {
		return binary.BigEndian.Uint32(b)
	}
	return binary.LittleEndian.Uint32(b)
}

func (o Order) uint64(b []byte) uint64 {
	if o == bigEndian {
		return binary.BigEndian.Uint64(b)
	}
	return binary.LittleEndian.Uint64(b)
}

// PutUint32 puts v at the start of b.
func (o Order) PutUint32(b []byte, v uint32) {
	if o == bigEndian {
		binary.BigEndian.PutUint32(b, v)
		return
	}
	binary.LittleEndian.PutUint32(b, v)
}

func (o Order) putUint64(b []byte, v uint64) {
	if o == bigEndian {
		binary.BigEndian.PutUint64(b, v)
		return
	}
	binary.LittleEndian.PutUint64(b, v)
}
