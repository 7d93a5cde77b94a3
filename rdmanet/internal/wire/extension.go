package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// An Extension follows the connection data of rsockets, which ignores it: a magic, a version,
// flags, and then any number of fields, each of a type, a length and that many bytes. Unknown flags
// and fields are ignored. A type of 0 ends the list, as InfiniBand and RoCE fill private data with
// zeros up to a fixed size.
//
//	0   4  magic "iWAR"
//	4   1  version, 1
//	5   1  flags: bit 0, the whole ring is granted at the start
//	              bit 1, in a request: the sender can be redirected
//	              bit 2, in a request with bit 1: it wants nothing else
//	              bit 3: bytes written to the sender's ring count as received when they are
//	              placed, in the order of the stream; no word is to follow them, and they
//	              take no credit
//	6      fields: 1, 4 bytes: the largest FPDU that the sender takes
//	               2, 2 bytes, in a refusal: the port to connect to in place of this one, at
//	                           the same address
//	               3, 2 bytes, in a refusal with field 2: the port of the service, as the
//	                           server sees it; in a request that comes of it: the same
//	               4, 1 byte, in a refusal: why
//	               5, 16 bytes: the proof that the sender is on the host of the receiver, for
//	                           which CRC is left out; in the answer only to a valid one
//
// It is in the answer only if it was in the request. A refusal of such a request is an extension
// alone: to a client on siw, one without private data looks as if the peer had hung up.
//
// Bit 3 is for an end that places by software. A peer that does not know the bit does not set it
// either, and may send words anyway: they are accepted from it, although they say nothing.
type Extension struct {
	WholeRing    bool   // a second space as long as the first follows it, and is granted too
	Redirectable bool   // the sender of the request connects again where it is told to
	OnlyAsks     bool   // and it wants to be told that, or be refused
	Wordless     bool   // bytes written to the sender's ring need no word
	MaxSegment   uint32 // bytes of the largest FPDU that the sender takes; 0 means no statement
	Redirect     uint16 // port that the peer should connect to; 0 means none
	Service      uint16 // port of the service that the client is redirected from; 0 means no statement
	Proof        Proof  // that both ends are on one host; zero means no statement
	Why          uint8  // the connection is refused; 0 means no statement
	Line         bool   // it ends as a line does; ParseExtension takes no notice
}

// A Proof is what transport.HostProver gives.
type Proof [16]byte

const (
	extMagic     = "iWAR"
	extVersion   = 1
	extHeaderLen = len(extMagic) + 2

	extWholeRing    = 1 << 0
	extRedirectable = 1 << 1
	extOnlyAsks     = 1 << 2
	extWordless     = 1 << 3

	extEnd        = 0
	extMaxSegment = 1
	extRedirect   = 2
	extService    = 3
	extWhy        = 4
	extProof      = 5
	extLine       = 127

	lineEnd = "\r\n\r\n"
)

// Append appends the encoding of e to b.
func (e *Extension) Append(b []byte) []byte {
	var flags byte
	if e.WholeRing {
		flags |= extWholeRing
	}
	if e.Redirectable {
		flags |= extRedirectable
	}
	if e.OnlyAsks {
		flags |= extOnlyAsks
	}
	if e.Wordless {
		flags |= extWordless
	}
	b = append(b, extMagic...)
	b = append(b, extVersion, flags)
	if e.MaxSegment != 0 {
		b = append(b, extMaxSegment, 4)
		b = binary.BigEndian.AppendUint32(b, e.MaxSegment)
	}
	for _, port := range []struct {
		field byte
		value uint16
	}{{extRedirect, e.Redirect}, {extService, e.Service}} {
		if port.value != 0 {
			b = append(b, port.field, 2)
			b = binary.BigEndian.AppendUint16(b, port.value)
		}
	}
	if e.Why != 0 {
		b = append(b, extWhy, 1, e.Why)
	}
	if e.Proof != (Proof{}) {
		b = append(b, extProof, byte(len(e.Proof)))
		b = append(b, e.Proof[:]...)
	}
	if e.Line {
		b = append(b, extLine, byte(len(lineEnd)))
		b = append(b, lineEnd...)
	}
	return b
}

// ParseExtension returns nil if b is no extension, or one of a version that is not known.
func ParseExtension(b []byte) (*Extension, error) {
	e := new(Extension)
	if ok, err := e.Parse(b); err != nil || !ok {
		return nil, err
	}
	return e, nil
}

// Parse is ParseExtension with memory for the result. It reports whether b is such an extension.
func (e *Extension) Parse(b []byte) (ok bool, err error) {
	if len(b) < extHeaderLen || string(b[:len(extMagic)]) != extMagic || b[len(extMagic)] != extVersion {
		return false, nil
	}
	flags := b[len(extMagic)+1]
	*e = Extension{
		WholeRing:    flags&extWholeRing != 0,
		Redirectable: flags&extRedirectable != 0,
		OnlyAsks:     flags&extOnlyAsks != 0,
		Wordless:     flags&extWordless != 0,
	}
	for b = b[extHeaderLen:]; len(b) > 0 && b[0] != extEnd; {
		if len(b) < 2 || len(b)-2 < int(b[1]) {
			return false, errors.New("a field of the connection data's extension is cut short")
		}
		field, value := b[0], b[2:2+int(b[1])]
		b = b[2+len(value):]
		switch field {
		case extMaxSegment:
			if len(value) != 4 {
				return false, fmt.Errorf("the largest segment is told in %d bytes; 4 are needed", len(value))
			}
			e.MaxSegment = binary.BigEndian.Uint32(value)
		case extRedirect, extService:
			if len(value) != 2 {
				return false, fmt.Errorf("a port is told in %d bytes; 2 are needed", len(value))
			}
			port := binary.BigEndian.Uint16(value)
			if field == extRedirect {
				e.Redirect = port
			} else {
				e.Service = port
			}
		case extWhy:
			if len(value) != 1 {
				return false, fmt.Errorf("the reason of a refusal is told in %d bytes; 1 is needed", len(value))
			}
			e.Why = value[0]
		case extProof:
			if len(value) != len(e.Proof) {
				return false, fmt.Errorf("the proof of the same host has %d bytes; 16 are needed", len(value))
			}
			e.Proof = Proof(value)
		}
	}
	return true, nil
}
