package rdmanet

import (
	"errors"
	"syscall"
)

// ErrProtocol is found by errors.Is in the error of a connection whose peer broke the rules of the
// rsocket protocol. Such an error also matches syscall.ECONNRESET.
var ErrProtocol = errors.New("peer violates the rsocket protocol")

type protocolError struct{ what string }

func (e *protocolError) Error() string   { return ErrProtocol.Error() + ": " + e.what }
func (e *protocolError) Unwrap() []error { return []error{ErrProtocol, syscall.ECONNRESET} }

var errDataAfterEnd = &protocolError{"data after the end of the stream"}
