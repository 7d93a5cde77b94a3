package rdmap

import (
	"encoding/binary"
	"fmt"

	"github.com/rdmanet/iwarp/transport/soft/internal/ddp"
)

// Sizes of the Terminate header in bytes: the fixed part, and the most with all
// parts of an offending Read Request.
const (
	TerminateLen    = 4
	MaxTerminateLen = TerminateLen + segLenLen + ddp.UntaggedLen + ReadRequestLen

	segLenLen = 2
)

// Terminate is the Terminate header, the payload of a Terminate segment (RFC 5040,
// section 4.8). One that was received is a report to be logged, not to act upon.
type Terminate struct {
	Layer, Type, Code uint8
	HdrM, HdrD, HdrR  bool   // as on the wire
	SegLen            uint16 // HdrM: ULPDU length of the offending segment
	DDP               []byte // HdrD: its DDP header, 14 or 18 bytes
	RDMAP             []byte // HdrR: its Read Request header, 28 bytes

	raw []byte // what ParseTerminate read, for Swapped
}

// Terminate returns the message that reports e about ulpdu, the offending segment,
// with the parts of it that e asks for and that ulpdu has. They alias ulpdu, which
// may be nil.
func (e *Error) Terminate(ulpdu []byte) Terminate {
	t := Terminate{Layer: e.Layer, Type: e.Type, Code: e.Code}
	if e.Headers&HeaderD == 0 || len(ulpdu) < controlLen {
		return t
	}
	n := ddpHeaderLen(ulpdu[0])
	if len(ulpdu) < n {
		return t
	}
	t.HdrM, t.HdrD = true, true
	t.SegLen, t.DDP = uint16(len(ulpdu)), ulpdu[:n:n]
	isRead := n == ddp.UntaggedLen && OpcodeOf(ulpdu[1]) == OpReadRequest
	if end := n + ReadRequestLen; e.Headers&HeaderR != 0 && isRead && len(ulpdu) >= end {
		t.HdrR, t.RDMAP = true, ulpdu[n:end:end]
	}
	return t
}

// Append appends the Terminate header to b and returns the longer slice. A part is
// written, and its bit set, if its Hdr field is set and its slice has the length
// of that header; the segment length is written with HdrM or before any other part.
func (t *Terminate) Append(b []byte) []byte {
	withD := t.HdrD && len(t.DDP) > 0 && len(t.DDP) == ddpHeaderLen(t.DDP[0])
	withR := t.HdrR && withD && len(t.RDMAP) == ReadRequestLen
	var h Headers
	if t.HdrM || withD {
		h |= HeaderM
	}
	if withD {
		h |= HeaderD
	}
	if withR {
		h |= HeaderR
	}
	b = append(b, t.Layer<<4|t.Type&0x0f, t.Code, byte(h), 0)
	if h&HeaderM != 0 {
		b = binary.BigEndian.AppendUint16(b, t.SegLen)
	}
	if withD {
		b = append(b, t.DDP...)
	}
	if withR {
		b = append(b, t.RDMAP...)
	}
	return b
}

// ParseTerminate decodes the payload of a Terminate segment; DDP and RDMAP alias it.
// It is lenient: a part that is announced but incomplete is left empty, and
// bytes after the last part are ignored. The only error is ErrMPALength, when
// b is shorter than TerminateLen; never after Validate.
func ParseTerminate(b []byte) (Terminate, error) {
	if len(b) < TerminateLen {
		return Terminate{}, ErrMPALength
	}
	return readTerminate(b, b[0]>>4, b[0]&0x0f, Headers(b[2])), nil
}

// Swapped returns t as read with the bits of each byte in the order of a little-endian C bit-field,
// in which siw, the Linux software iWARP, sends them: layer and type exchanged and M, D, R in the
// three lowest bits. A received message does not show which order its sender used. The parts are
// read again from what was parsed; of a Terminate that was not parsed, they are those of t.
func (t *Terminate) Swapped() Terminate {
	if t.raw == nil {
		s := *t
		s.Layer, s.Type = t.Type, t.Layer
		return s
	}
	b := t.raw
	var h Headers
	for i, part := range [...]Headers{HeaderM, HeaderD, HeaderR} {
		if b[2]>>i&1 != 0 {
			h |= part
		}
	}
	return readTerminate(b, b[0]&0x0f, b[0]>>4, h)
}

func readTerminate(b []byte, layer, typ uint8, h Headers) Terminate {
	t := Terminate{
		Layer: layer, Type: typ, Code: b[1],
		HdrM: h&HeaderM != 0, HdrD: h&HeaderD != 0, HdrR: h&HeaderR != 0,
		raw: b,
	}
	rest := b[TerminateLen:]
	if t.HdrM {
		if len(rest) < segLenLen {
			return t
		}
		t.SegLen, rest = binary.BigEndian.Uint16(rest), rest[segLenLen:]
	}
	if t.HdrD {
		if len(rest) == 0 || len(rest) < ddpHeaderLen(rest[0]) {
			return t
		}
		n := ddpHeaderLen(rest[0])
		t.DDP, rest = rest[:n:n], rest[n:]
	}
	if t.HdrR && len(rest) >= ReadRequestLen {
		t.RDMAP = rest[:ReadRequestLen:ReadRequestLen]
	}
	return t
}

// String names the error in words, followed by layer/type/code.
func (t *Terminate) String() string {
	if e := Lookup(t.Layer, t.Type, t.Code); e != nil {
		return fmt.Sprintf("%s (%d/%d/%#02x)", e.Text(), t.Layer, t.Type, t.Code)
	}
	return fmt.Sprintf("%s: unknown error (%d/%d/%#02x)", layerName(t.Layer), t.Layer, t.Type, t.Code)
}

func ddpHeaderLen(control byte) int {
	if ddp.IsTagged(control) {
		return ddp.TaggedLen
	}
	return ddp.UntaggedLen
}
