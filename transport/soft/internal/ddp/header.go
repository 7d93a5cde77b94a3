package ddp

import "encoding/binary"

// Bits of the control byte, the first of every segment.
const (
	ControlTagged  = 0x80 // T: tagged buffer model
	ControlLast    = 0x40 // L: last segment of its message
	ControlVersion = 0x03 // DV: mask of the version; the bits between are reserved

	Version = 1
)

// Header lengths in bytes, control byte and RsvdULP byte included.
const (
	TaggedLen   = 14
	UntaggedLen = 18
)

// Queue numbers of untagged segments, as RDMAP uses them (RFC 5040, section 4.1).
const (
	QueueSend      = 0
	QueueRead      = 1
	QueueTerminate = 2
)

// Tagged is the header of a tagged segment (RFC 5041, section 4.2).
type Tagged struct {
	Last bool
	ULP  uint8  // RsvdULP: the control byte of RDMAP
	STag uint32 // names the buffer
	TO   uint64 // offset in the buffer of the first payload byte
}

// Untagged is the header of an untagged segment (RFC 5041, section 4.3).
type Untagged struct {
	Last    bool
	ULP     uint8  // first byte of RsvdULP: the control byte of RDMAP
	ULPWord uint32 // the other four: the STag to invalidate, otherwise 0
	QN      uint32 // queue number
	MSN     uint32 // message sequence number in the queue, from 1, modulo 2^32
	MO      uint32 // offset in the message of the first payload byte
}

// IsTagged reports whether control, the first byte of a segment, announces a tagged one.
func IsTagged(control byte) bool { return control&ControlTagged != 0 }

// VersionOf returns the DDP version, 0 to 3, in the first byte of a segment.
func VersionOf(control byte) uint8 { return control & ControlVersion }

// Put writes the header to the first TaggedLen bytes of b and panics if b is shorter.
func (h *Tagged) Put(b []byte) {
	_ = b[TaggedLen-1]
	b[0] = control(ControlTagged|Version, h.Last)
	b[1] = h.ULP
	binary.BigEndian.PutUint32(b[2:], h.STag)
	binary.BigEndian.PutUint64(b[6:], h.TO)
}

// Append appends the header to b and returns the longer slice.
func (h *Tagged) Append(b []byte) []byte {
	var a [TaggedLen]byte
	h.Put(a[:])
	return append(b, a[:]...)
}

// ParseTagged splits a tagged segment into header and payload, which aliases b.
// Errors: ErrShort below TaggedLen bytes, ErrModel for an untagged segment,
// ErrVersionTagged. Reserved control bits are ignored.
func ParseTagged(b []byte) (h Tagged, payload []byte, err error) {
	switch {
	case len(b) < TaggedLen:
		return h, nil, ErrShort
	case !IsTagged(b[0]):
		return h, nil, ErrModel
	case VersionOf(b[0]) != Version:
		return h, nil, ErrVersionTagged
	}
	h.Last = b[0]&ControlLast != 0
	h.ULP = b[1]
	h.STag = binary.BigEndian.Uint32(b[2:])
	h.TO = binary.BigEndian.Uint64(b[6:])
	return h, b[TaggedLen:], nil
}

// Put writes the header to the first UntaggedLen bytes of b and panics if b is shorter.
func (h *Untagged) Put(b []byte) {
	_ = b[UntaggedLen-1]
	b[0] = control(Version, h.Last)
	b[1] = h.ULP
	binary.BigEndian.PutUint32(b[2:], h.ULPWord)
	binary.BigEndian.PutUint32(b[6:], h.QN)
	binary.BigEndian.PutUint32(b[10:], h.MSN)
	binary.BigEndian.PutUint32(b[14:], h.MO)
}

// Append appends the header to b and returns the longer slice.
func (h *Untagged) Append(b []byte) []byte {
	var a [UntaggedLen]byte
	h.Put(a[:])
	return append(b, a[:]...)
}

// ParseUntagged splits an untagged segment into header and payload, which aliases
// b. Errors: ErrShort below UntaggedLen bytes, ErrModel for a tagged segment,
// ErrVersionUntagged. Reserved control bits are ignored.
func ParseUntagged(b []byte) (h Untagged, payload []byte, err error) {
	switch {
	case len(b) < UntaggedLen:
		return h, nil, ErrShort
	case IsTagged(b[0]):
		return h, nil, ErrModel
	case VersionOf(b[0]) != Version:
		return h, nil, ErrVersionUntagged
	}
	h.Last = b[0]&ControlLast != 0
	h.ULP = b[1]
	h.ULPWord = binary.BigEndian.Uint32(b[2:])
	h.QN = binary.BigEndian.Uint32(b[6:])
	h.MSN = binary.BigEndian.Uint32(b[10:])
	h.MO = binary.BigEndian.Uint32(b[14:])
	return h, b[UntaggedLen:], nil
}

func control(c byte, last bool) byte {
	if last {
		c |= ControlLast
	}
	return c
}
