package rdmap

import "encoding/binary"

// ReadRequestLen is the length in bytes of the Read Request header, which is
// also the whole payload of its DDP segment.
const ReadRequestLen = 28

// ReadRequest is the Read Request header (RFC 5040, section 4.4).
type ReadRequest struct {
	SinkSTag uint32 // where the requester wants the data
	SinkTO   uint64
	Size     uint32 // bytes to read
	SrcSTag  uint32 // where the responder finds it
	SrcTO    uint64
}

// Put writes the header to the first ReadRequestLen bytes of b and panics if b is shorter.
func (r *ReadRequest) Put(b []byte) {
	_ = b[ReadRequestLen-1]
	binary.BigEndian.PutUint32(b, r.SinkSTag)
	binary.BigEndian.PutUint64(b[4:], r.SinkTO)
	binary.BigEndian.PutUint32(b[12:], r.Size)
	binary.BigEndian.PutUint32(b[16:], r.SrcSTag)
	binary.BigEndian.PutUint64(b[20:], r.SrcTO)
}

// ParseReadRequest decodes b, the payload of a Read Request segment. The only
// error is ErrMPALength, when b is not ReadRequestLen bytes long; never after Validate.
func ParseReadRequest(b []byte) (ReadRequest, error) {
	if len(b) != ReadRequestLen {
		return ReadRequest{}, ErrMPALength
	}
	return ReadRequest{
		SinkSTag: binary.BigEndian.Uint32(b),
		SinkTO:   binary.BigEndian.Uint64(b[4:]),
		Size:     binary.BigEndian.Uint32(b[12:]),
		SrcSTag:  binary.BigEndian.Uint32(b[16:]),
		SrcTO:    binary.BigEndian.Uint64(b[20:]),
	}, nil
}
