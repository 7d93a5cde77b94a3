package rdmap

import (
	"errors"
	"fmt"

	"github.com/rdmanet/iwarp/transport/soft/internal/ddp"
	"github.com/rdmanet/iwarp/transport/soft/internal/mpa"
)

// Layer is the Terminate layer number of RDMAP (RFC 5040, section 4.8). Those of the
// layers below are ddp.Layer and mpa.Layer.
const Layer uint8 = 0

// Terminate error types of layer 0.
const (
	TypeCatastrophic     uint8 = 0 // local catastrophic error; any code
	TypeRemoteProtection uint8 = 1
	TypeRemoteOperation  uint8 = 2
)

// Headers says which parts of the offending segment a Terminate message repeats.
type Headers uint8

const (
	HeaderM Headers = 0x80 // DDP segment length
	HeaderD Headers = 0x40 // DDP header
	HeaderR Headers = 0x20 // RDMAP header, of a Read Request only

	headersDDP   = HeaderM | HeaderD
	headersRDMAP = HeaderM | HeaderD | HeaderR
)

// Error is an error that a Terminate message can report, of any of the three
// layers. All values are package-level variables: compare with == or errors.Is.
type Error struct {
	Layer, Type, Code uint8
	Headers           Headers // what Terminate puts into the message
	text              string
}

// Error returns the description and, in parentheses, layer/type/code.
func (e *Error) Error() string {
	return fmt.Sprintf("%s (%d/%d/%#02x)", e.Text(), e.Layer, e.Type, e.Code)
}

// Text returns the description alone, which begins with the name of the layer.
func (e *Error) Text() string { return layerName(e.Layer) + ": " + e.text }

// Errors of RDMAP itself, layer 0 (RFC 5040, section 4.8). The remote protection
// errors are for Read Requests, except that ErrCannotInvalidate is for Sends.
var (
	ErrCatastrophic = &Error{Layer, TypeCatastrophic, 0x00, 0, "local catastrophic error"}

	ErrRemoteInvalidSTag       = &Error{Layer, TypeRemoteProtection, 0x00, headersRDMAP, "invalid STag"}
	ErrRemoteBaseBounds        = &Error{Layer, TypeRemoteProtection, 0x01, headersRDMAP, "base or bounds violation"}
	ErrRemoteAccess            = &Error{Layer, TypeRemoteProtection, 0x02, headersRDMAP, "access rights violation"}
	ErrRemoteSTagNotAssociated = &Error{Layer, TypeRemoteProtection, 0x03, headersRDMAP, "STag not associated with the stream"}
	ErrRemoteTOWrap            = &Error{Layer, TypeRemoteProtection, 0x04, headersRDMAP, "tagged offset wraps"}
	ErrCannotInvalidate        = &Error{Layer, TypeRemoteProtection, 0x09, headersDDP, "STag cannot be invalidated"} // not of the stream's protection domain
	ErrRemoteProtection        = &Error{Layer, TypeRemoteProtection, 0xff, headersRDMAP, "unspecified remote protection error"}

	ErrVersion                 = &Error{Layer, TypeRemoteOperation, 0x05, 0, "invalid version"}
	ErrUnexpectedOpcode        = &Error{Layer, TypeRemoteOperation, 0x06, 0, "unexpected opcode"}
	ErrReadCatastrophic        = &Error{Layer, TypeRemoteOperation, 0x07, 0, "catastrophic error, localized to the stream"} // as for more Read Requests than the IRD
	ErrGlobalCatastrophic      = &Error{Layer, TypeRemoteOperation, 0x08, 0, "catastrophic error, global"}
	ErrCannotInvalidateUnknown = &Error{Layer, TypeRemoteOperation, 0x09, headersDDP, "unknown STag cannot be invalidated"}
	ErrRemoteOperation         = &Error{Layer, TypeRemoteOperation, 0xff, 0, "unspecified remote operation error"}
)

// Errors of DDP, layer 1 (RFC 5041, section 7.2). errors.Is matches each with that of package ddp.
var (
	ErrDDPCatastrophic = ofDDP(ddp.ErrCatastrophic, 0)

	ErrInvalidSTagTagged = ofDDP(ddp.ErrInvalidSTag, headersDDP)
	ErrBaseBounds        = ofDDP(ddp.ErrBaseBounds, headersDDP)
	ErrSTagNotAssociated = ofDDP(ddp.ErrSTagNotAssociated, headersDDP)
	ErrTOWrap            = ofDDP(ddp.ErrTOWrap, headersDDP)
	ErrDDPVersionTagged  = ofDDP(ddp.ErrVersionTagged, 0)

	ErrInvalidQN          = ofDDP(ddp.ErrInvalidQN, headersDDP)
	ErrNoBuffer           = ofDDP(ddp.ErrNoBuffer, headersDDP)
	ErrMSNRange           = ofDDP(ddp.ErrMSNRange, headersDDP)
	ErrInvalidMO          = ofDDP(ddp.ErrInvalidMO, headersDDP)
	ErrMessageTooLong     = ofDDP(ddp.ErrMessageTooLong, headersDDP)
	ErrDDPVersionUntagged = ofDDP(ddp.ErrVersionUntagged, 0)
)

// Errors of MPA, layer 2 (RFC 5044, section 8, and RFC 6581).
var (
	ErrMPAClosed          = ofMPA(mpa.CodeClosed, "TCP connection closed or lost")
	ErrMPACRC             = ofMPA(mpa.CodeCRC, "CRC mismatch")
	ErrMPALength          = ofMPA(mpa.CodeLength, "impossible ULPDU length, or marker mismatch")
	ErrMPAFrame           = ofMPA(mpa.CodeFrame, "invalid request or reply frame")
	ErrMPACatastrophic    = ofMPA(mpa.CodeCatastrophic, "local catastrophic error")
	ErrMPAInsufficientIRD = ofMPA(mpa.CodeInsufficientIRD, "insufficient IRD resources")
	ErrMPANoRTR           = ofMPA(mpa.CodeNoRTR, "no matching RTR option")
)

// known holds every error above, in the order of the code tables.
var known = [...]*Error{
	ErrCatastrophic,
	ErrRemoteInvalidSTag, ErrRemoteBaseBounds, ErrRemoteAccess, ErrRemoteSTagNotAssociated,
	ErrRemoteTOWrap, ErrCannotInvalidate, ErrRemoteProtection,
	ErrVersion, ErrUnexpectedOpcode, ErrReadCatastrophic, ErrGlobalCatastrophic,
	ErrCannotInvalidateUnknown, ErrRemoteOperation,
	ErrDDPCatastrophic,
	ErrInvalidSTagTagged, ErrBaseBounds, ErrSTagNotAssociated, ErrTOWrap, ErrDDPVersionTagged,
	ErrInvalidQN, ErrNoBuffer, ErrMSNRange, ErrInvalidMO, ErrMessageTooLong, ErrDDPVersionUntagged,
	ErrMPAClosed, ErrMPACRC, ErrMPALength, ErrMPAFrame, ErrMPACatastrophic,
	ErrMPAInsufficientIRD, ErrMPANoRTR,
}

// Lookup returns the error with the given numbers, or nil if no RFC defines it.
// A local catastrophic error of RDMAP may have any code.
func Lookup(layer, typ, code uint8) *Error {
	if layer == Layer && typ == TypeCatastrophic {
		return ErrCatastrophic
	}
	for _, e := range known {
		if e.Layer == layer && e.Type == typ && e.Code == code {
			return e
		}
	}
	return nil
}

// AsError returns the *Error to report for err, which may be or wrap an error of
// this package, of ddp or of mpa. ok is false for any other error.
func AsError(err error) (e *Error, ok bool) {
	if errors.As(err, &e) {
		return e, true
	}
	if d := (*ddp.Error)(nil); errors.As(err, &d) {
		return Lookup(ddp.Layer, d.Type, d.Code), true
	}
	if m := (*mpa.Error)(nil); errors.As(err, &m) {
		return Lookup(mpa.Layer, mpa.TypeMPA, m.Code), true
	}
	return nil, false
}

// Is makes errors.Is match an error of layer 1 with that of package ddp.
func (e *Error) Is(target error) bool {
	d, ok := target.(*ddp.Error)
	return ok && e.Layer == ddp.Layer && e.Type == d.Type && e.Code == d.Code
}

func ofDDP(d *ddp.Error, h Headers) *Error {
	return &Error{ddp.Layer, d.Type, d.Code, h, d.Text()}
}

func ofMPA(code uint8, text string) *Error {
	return &Error{mpa.Layer, mpa.TypeMPA, code, 0, text}
}

func layerName(layer uint8) string {
	switch layer {
	case Layer:
		return "rdmap"
	case ddp.Layer:
		return "ddp"
	case mpa.Layer:
		return "mpa"
	default:
		return "unknown layer"
	}
}
