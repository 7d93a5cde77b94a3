package mpa

// Layer is the Terminate layer number of the LLP, here MPA (RFC 5040, 4.8). Its
// only error type is TypeMPA.
const (
	Layer   uint8 = 2
	TypeMPA uint8 = 0
)

// Terminate error codes of layer 2, type 0. The first four are from RFC 5044,
// section 8, the others from RFC 6581.
const (
	CodeClosed          uint8 = 0x01 // TCP connection closed, terminated or lost
	CodeCRC             uint8 = 0x02 // received CRC does not match
	CodeLength          uint8 = 0x03 // marker and ULPDU_Length disagree, or the length is impossible
	CodeFrame           uint8 = 0x04 // invalid request or reply frame
	CodeCatastrophic    uint8 = 0x05 // local catastrophic error
	CodeInsufficientIRD uint8 = 0x06 // insufficient IRD resources
	CodeNoRTR           uint8 = 0x07 // no matching RTR option
)

// Error is a violation of MPA, with the code that a Terminate message reports
// for it under layer 2, type 0. All values are package-level variables: compare
// with == or errors.Is.
type Error struct {
	Code uint8
	text string
}

func (e *Error) Error() string { return "mpa: " + e.text }

// Errors of start-up frames, found while parsing or asked for while building.
var (
	ErrShort       = &Error{CodeFrame, "frame is shorter than its fixed header or its private data; read more bytes first"}
	ErrTrailing    = &Error{CodeFrame, "bytes follow the frame; pass exactly one frame"}
	ErrKey         = &Error{CodeFrame, "key is not that of the expected request or reply frame"}
	ErrRevision    = &Error{CodeFrame, "revision is not 1 or 2"}
	ErrPrivateData = &Error{CodeFrame, "private data is longer than 512 bytes, enhanced words included"}
	ErrEnhanced    = &Error{CodeFrame, "enhanced flag and enhanced words do not go together; set the flag on revision 2 only, with all four bytes"}
	ErrDepth       = &Error{CodeFrame, "IRD or ORD exceeds 14 bits; use at most 0x3fff"}
	ErrFlags       = &Error{CodeFrame, "flags hold a reserved bit, or a reject in a request"}
)

// Errors of FPDUs. Either means that the framing of the stream is lost.
var (
	ErrLength = &Error{CodeLength, "ULPDU_Length does not match the FPDU; close the connection"}
	ErrCRC    = &Error{CodeCRC, "CRC mismatch; close the connection"}
)
