package mpa

import "encoding/binary"

// Sizes of the parts of a start-up frame, in bytes.
const (
	KeySize        = 16  // the key that opens a frame
	FrameHeaderLen = 20  // key, flags, revision, PD_Length
	EnhancedLen    = 4   // the enhanced words of RFC 6581, counted by PD_Length
	MaxPrivateData = 512 // the largest PD_Length
	MaxFrameLen    = FrameHeaderLen + MaxPrivateData
)

// MPA revisions. Revision 2 adds the enhanced words.
const (
	Rev1 uint8 = 1 // RFC 5044
	Rev2 uint8 = 2 // RFC 6581
)

// NoDepth in an IRD or ORD asks the peer not to negotiate that depth (RFC 6581).
// It is also the largest value that either field can hold.
const NoDepth = 0x3fff

const (
	requestKey = "MPA ID Req Frame"
	replyKey   = "MPA ID Rep Frame"

	offFlags    = 16
	offRevision = 17
	offLength   = 18
)

// Flags is the flag byte of a start-up frame.
type Flags uint8

const (
	FlagMarkers  Flags = 0x80 // M: the sender wants markers in what it receives
	FlagCRC      Flags = 0x40 // C: the sender wants CRCs; either frame's C turns them on both ways
	FlagReject   Flags = 0x20 // R: the connection is refused; reply only
	FlagEnhanced Flags = 0x10 // S: private data begins with the enhanced words; revision 2 only

	flagsKnown = FlagMarkers | FlagCRC | FlagReject | FlagEnhanced
)

// Enhanced holds the enhanced connection set-up words (RFC 6581).
type Enhanced struct {
	IRD        uint16 // inbound reads the sender can queue, 0..NoDepth
	ORD        uint16 // outbound reads the sender wants in flight, 0..NoDepth
	PeerToPeer bool   // A: the initiator sends an RTR frame before anything else
	RTRSend    bool   // B: the RTR frame may be a zero-length Send
	RTRWrite   bool   // C: the RTR frame may be a zero-length RDMA Write
	RTRRead    bool   // D: the RTR frame may be a zero-length RDMA Read
}

const (
	bitHigh = 0x8000 // A in the first word, C in the second
	bitNext = 0x4000 // B in the first word, D in the second
)

// Frame is a request or reply frame.
type Frame struct {
	Reply       bool
	Flags       Flags
	Revision    uint8
	Enhanced    Enhanced // meaningful with FlagEnhanced only
	PrivateData []byte   // what the ULP sent, without the enhanced words
}

// Append appends the frame to b and returns the longer slice. A frame that
// carries FlagEnhanced always has its four bytes of enhanced words.
//
// On error b comes back unchanged: ErrRevision unless Revision is Rev1 or Rev2,
// ErrFlags for reserved flag bits or FlagReject in a request, ErrEnhanced for
// FlagEnhanced below revision 2 or for Enhanced values without FlagEnhanced, ErrDepth,
// and ErrPrivateData when more than MaxPrivateData bytes, enhanced words
// included, would follow the header.
func (f *Frame) Append(b []byte) ([]byte, error) {
	enhanced := f.Flags&FlagEnhanced != 0
	pd := len(f.PrivateData)
	if enhanced {
		pd += EnhancedLen
	}
	switch {
	case f.Revision != Rev1 && f.Revision != Rev2:
		return b, ErrRevision
	case f.Flags&^flagsKnown != 0, f.Flags&FlagReject != 0 && !f.Reply:
		return b, ErrFlags
	case enhanced && f.Revision < Rev2, !enhanced && f.Enhanced != Enhanced{}:
		return b, ErrEnhanced
	case f.Enhanced.IRD > NoDepth || f.Enhanced.ORD > NoDepth:
		return b, ErrDepth
	case pd > MaxPrivateData:
		return b, ErrPrivateData
	}
	b = append(b, key(f.Reply)...)
	b = append(b, byte(f.Flags), f.Revision)
	b = binary.BigEndian.AppendUint16(b, uint16(pd))
	if enhanced {
		b = f.Enhanced.append(b)
	}
	return append(b, f.PrivateData...), nil
}

func (e *Enhanced) append(b []byte) []byte {
	ird, ord := e.IRD, e.ORD
	if e.PeerToPeer {
		ird |= bitHigh
	}
	if e.RTRSend {
		ird |= bitNext
	}
	if e.RTRWrite {
		ord |= bitHigh
	}
	if e.RTRRead {
		ord |= bitNext
	}
	b = binary.BigEndian.AppendUint16(b, ird)
	return binary.BigEndian.AppendUint16(b, ord)
}

func parseEnhanced(b []byte) Enhanced {
	ird, ord := binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	return Enhanced{
		IRD:        ird & NoDepth,
		ORD:        ord & NoDepth,
		PeerToPeer: ird&bitHigh != 0,
		RTRSend:    ird&bitNext != 0,
		RTRWrite:   ord&bitHigh != 0,
		RTRRead:    ord&bitNext != 0,
	}
}

// IsRequestPrefix reports whether b, the first bytes of a stream, can be the
// beginning of a request frame. Only the key decides: a stream that opens with
// it is MPA, even if ParseHeader refuses the rest. It is true for an empty b.
func IsRequestPrefix(b []byte) bool { return isPrefix(b, requestKey) }

// IsReplyPrefix is IsRequestPrefix for a reply frame.
func IsReplyPrefix(b []byte) bool { return isPrefix(b, replyKey) }

func isPrefix(b []byte, key string) bool {
	n := min(len(b), KeySize)
	return string(b[:n]) == key[:n]
}

// ParseHeader checks the FrameHeaderLen bytes at the start of b and returns the length of the whole
// frame, FrameHeaderLen to MaxFrameLen, which may be more than is in b. Errors: ErrShort with fewer
// than FrameHeaderLen bytes, ErrKey, ErrRevision for a revision other than 1 or 2, ErrPrivateData
// for a PD_Length above MaxPrivateData, and ErrEnhanced for a frame that announces enhanced words
// and has no room for them. On ErrEnhanced the length is nevertheless valid, so that the frame can
// be read whole and answered with a reject.
func ParseHeader(b []byte, reply bool) (total int, err error) {
	if len(b) < FrameHeaderLen {
		return 0, ErrShort
	}
	if string(b[:KeySize]) != key(reply) {
		return 0, ErrKey
	}
	if rev := b[offRevision]; rev != Rev1 && rev != Rev2 {
		return 0, ErrRevision
	}
	pd := int(binary.BigEndian.Uint16(b[offLength:]))
	if pd > MaxPrivateData {
		return 0, ErrPrivateData
	}
	if isEnhanced(b) && pd < EnhancedLen {
		err = ErrEnhanced
	}
	return FrameHeaderLen + pd, err
}

// Parse decodes b, which must be exactly one frame; PrivateData aliases it.
// Reserved flag bits, R in a request and S below revision 2 are ignored, and are
// not set in the result. Errors are those of ParseHeader, ErrShort when the
// private data is incomplete and ErrTrailing when bytes follow it.
func Parse(b []byte, reply bool) (Frame, error) {
	total, err := ParseHeader(b, reply)
	if err != nil {
		return Frame{}, err
	}
	if len(b) < total {
		return Frame{}, ErrShort
	}
	if len(b) > total {
		return Frame{}, ErrTrailing
	}
	f := Frame{
		Reply:       reply,
		Flags:       Flags(b[offFlags]) & flagsKnown,
		Revision:    b[offRevision],
		PrivateData: b[FrameHeaderLen:],
	}
	if !reply {
		f.Flags &^= FlagReject
	}
	if isEnhanced(b) {
		f.Enhanced = parseEnhanced(f.PrivateData)
		f.PrivateData = f.PrivateData[EnhancedLen:]
	} else {
		f.Flags &^= FlagEnhanced
	}
	return f, nil
}

func isEnhanced(b []byte) bool {
	return b[offRevision] >= Rev2 && Flags(b[offFlags])&FlagEnhanced != 0
}

func key(reply bool) string {
	if reply {
		return replyKey
	}
	return requestKey
}
