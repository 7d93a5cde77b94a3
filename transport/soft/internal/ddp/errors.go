package ddp

import "errors"

// Layer is the Terminate layer number of DDP (RFC 5040, 4.8).
const Layer uint8 = 1

// Terminate error types of layer 1.
const (
	TypeCatastrophic uint8 = 0 // local catastrophic error
	TypeTagged       uint8 = 1 // tagged buffer error
	TypeUntagged     uint8 = 2 // untagged buffer error
	TypeLLP          uint8 = 3 // reserved for the layer below
)

// Error is a DDP error with the type and code that a Terminate message reports for
// it under layer 1 (RFC 5041, section 7.2). All values are package-level
// variables: compare with == or errors.Is.
type Error struct {
	Type, Code uint8
	text       string
}

func (e *Error) Error() string { return "ddp: " + e.text }

// Text returns the description without the package name.
func (e *Error) Text() string { return e.text }

// All DDP errors of RFC 5041, section 7.2.
var (
	ErrCatastrophic = &Error{TypeCatastrophic, 0x00, "local catastrophic error"}

	ErrInvalidSTag       = &Error{TypeTagged, 0x00, "invalid STag"}
	ErrBaseBounds        = &Error{TypeTagged, 0x01, "base or bounds violation"}
	ErrSTagNotAssociated = &Error{TypeTagged, 0x02, "STag not associated with the stream"}
	ErrTOWrap            = &Error{TypeTagged, 0x03, "tagged offset wraps"}
	ErrVersionTagged     = &Error{TypeTagged, 0x04, "invalid version in a tagged segment"}

	ErrInvalidQN       = &Error{TypeUntagged, 0x01, "invalid queue number"}
	ErrNoBuffer        = &Error{TypeUntagged, 0x02, "no buffer available for the message sequence number"}
	ErrMSNRange        = &Error{TypeUntagged, 0x03, "message sequence number out of range"}
	ErrInvalidMO       = &Error{TypeUntagged, 0x04, "invalid message offset"}
	ErrMessageTooLong  = &Error{TypeUntagged, 0x05, "message too long for the available buffer"}
	ErrVersionUntagged = &Error{TypeUntagged, 0x06, "invalid version in an untagged segment"}
)

// Errors that have no DDP code. A receiver that checks the length and the T bit
// before it parses, as it must to pick the parser, never sees them.
var (
	ErrShort = errors.New("ddp: segment is shorter than its header; check the length before parsing")
	ErrModel = errors.New("ddp: tagged and untagged header confused; choose the parser by IsTagged")
)
