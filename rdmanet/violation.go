package rdmanet

import (
	"errors"
	"syscall"
)

// ErrProtocol is found by errors.Is in the error of a connection whose peer broke the rules of the
// rsocket protocol. Such an error also matches syscall.ECONNRESET.
var ErrProtocol = errors.New("peer violates the rsocket protocol")

// A violation is what a peer did against the protocol.
type violation string

func (v violation) Error() string   { return ErrProtocol.Error() + ": " + string(v) }
func (v violation) Unwrap() []error { return []error{ErrProtocol, syscall.ECONNRESET} }

const errDataAfterEnd = violation("data after the end of the stream")
