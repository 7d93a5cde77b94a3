package wire

import (
	"errors"
	"syscall"
)

// ErrProtocol is found by errors.Is in every Violation.
var ErrProtocol = errors.New("peer violates the rsocket protocol")

// A Violation is what a peer did that breaks the protocol.
type Violation string

func (v Violation) Error() string { return ErrProtocol.Error() + ": " + string(v) }

// Unwrap returns ErrProtocol and syscall.ECONNRESET.
func (v Violation) Unwrap() []error { return []error{ErrProtocol, syscall.ECONNRESET} }

// ErrDataAfterEnd is for what comes after the peer has said that nothing will.
const ErrDataAfterEnd = Violation("data after the end of the stream")
