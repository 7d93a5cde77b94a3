package rdmap

import "github.com/rdmanet/iwarp/transport/soft/internal/ddp"

// controlLen is what every segment must have: the control bytes of DDP and RDMAP.
const controlLen = 2

// Segment is a DDP segment with an RDMAP header.
type Segment struct {
	Op      Opcode
	Tagged  bool         // whether T or U is the header
	T       ddp.Tagged   // of a Write or Read Response
	U       ddp.Untagged // of all others
	Payload []byte       // what follows the DDP header; aliases the ULPDU
}

// Last reports whether the segment ends its message.
func (s *Segment) Last() bool {
	if s.Tagged {
		return s.T.Last
	}
	return s.U.Last
}

// Validate decodes a received ULPDU and makes every check that needs no connection
// state, in this order:
//
//   - the length: at least the header of its DDP model and opcode, and
//     for a Read Request exactly that (ErrMPALength)
//   - the DDP version (ErrDDPVersionTagged, ErrDDPVersionUntagged)
//   - the RDMAP version (ErrVersion)
//   - the opcode: one of RFC 5040, and of this DDP model (ErrUnexpectedOpcode)
//   - the queue number, of an untagged segment (ErrInvalidQN)
//   - that a Read Request ends with its segment (ErrMessageTooLong)
//
// The error is one of these *Error values. MSN, MO, STag, TO and the sizes of
// buffers remain to be checked by the caller. Reserved bits are ignored.
func Validate(ulpdu []byte) (s Segment, err error) {
	if len(ulpdu) < controlLen {
		return s, ErrMPALength
	}
	op := OpcodeOf(ulpdu[1])
	if ddp.IsTagged(ulpdu[0]) {
		return validateTagged(ulpdu, op)
	}
	return validateUntagged(ulpdu, op)
}

func validateTagged(ulpdu []byte, op Opcode) (s Segment, err error) {
	switch {
	case len(ulpdu) < ddp.TaggedLen:
		return s, ErrMPALength
	case ddp.VersionOf(ulpdu[0]) != ddp.Version:
		return s, ErrDDPVersionTagged
	case VersionOf(ulpdu[1]) != Version:
		return s, ErrVersion
	case !op.Tagged():
		return s, ErrUnexpectedOpcode
	}
	s.Op, s.Tagged = op, true
	s.T, s.Payload, err = ddp.ParseTagged(ulpdu)
	return s, err
}

func validateUntagged(ulpdu []byte, op Opcode) (s Segment, err error) {
	switch {
	case !untaggedLenOK(len(ulpdu), op):
		return s, ErrMPALength
	case ddp.VersionOf(ulpdu[0]) != ddp.Version:
		return s, ErrDDPVersionUntagged
	case VersionOf(ulpdu[1]) != Version:
		return s, ErrVersion
	case op.Tagged() || !op.Supported():
		return s, ErrUnexpectedOpcode
	}
	u, payload, err := ddp.ParseUntagged(ulpdu)
	switch {
	case err != nil:
		return s, err
	case u.QN != op.Queue():
		return s, ErrInvalidQN
	case op == OpReadRequest && !u.Last:
		return s, ErrMessageTooLong
	}
	s.Op, s.U, s.Payload = op, u, payload
	return s, nil
}

func untaggedLenOK(n int, op Opcode) bool {
	switch op {
	case OpReadRequest:
		return n == ddp.UntaggedLen+ReadRequestLen
	case OpTerminate:
		return n >= ddp.UntaggedLen+TerminateLen
	default:
		return n >= ddp.UntaggedLen
	}
}
