package rdmanet

import (
	"encoding/binary"

	"github.com/pkg/errors"
)

// An extension follows the connection data of rsockets, which ignores it: a magic, a version, flags, and then any
// number of fields, each of a type, a length and that many bytes. Unknown flags and fields are ignored.
//
//	0   4  magic "iWAR"
//	4   1  version, 1
//	5   1  flags: bit 0, the whole ring is granted at the start
//	6      fields: 1, 4 bytes: the largest FPDU that the sender takes
//
// It is in the answer only if it was in the request.
type extension struct {
	wholeRing  bool   // a second space as long as the first follows it, and is granted too
	maxSegment uint32 // bytes of the largest FPDU that the sender takes; 0 means no statement
}

const (
	extMagic     = "iWAR"
	extVersion   = 1
	extHeaderLen = len(extMagic) + 2

	extWholeRing = 1 << 0

	extMaxSegment = 1
)

func (e *extension) append(b []byte) []byte {
	var flags byte
	if e.wholeRing {
		flags |= extWholeRing
	}
	b = append(b, extMagic...)
	b = append(b, extVersion, flags)
	if e.maxSegment != 0 {
		b = append(b, extMaxSegment, 4)
		b = binary.BigEndian.AppendUint32(b, e.maxSegment)
	}
	return b
}

// parseExtension returns nil if b is no extension, or one of a version that is not known.
func parseExtension(b []byte) (*extension, error) {
	if len(b) < extHeaderLen || string(b[:len(extMagic)]) != extMagic || b[len(extMagic)] != extVersion {
		return nil, nil
	}
	e := &extension{wholeRing: b[len(extMagic)+1]&extWholeRing != 0}
	for b = b[extHeaderLen:]; len(b) > 0; {
		if len(b) < 2 || len(b)-2 < int(b[1]) {
			return nil, errors.New("a field of the connection data's extension is cut short")
		}
		field, value := b[0], b[2:2+int(b[1])]
		b = b[2+len(value):]
		if field == extMaxSegment {
			if len(value) != 4 {
				return nil, errors.Errorf("the largest segment is told in %d bytes; 4 are needed", len(value))
			}
			e.maxSegment = binary.BigEndian.Uint32(value)
		}
	}
	return e, nil
}
