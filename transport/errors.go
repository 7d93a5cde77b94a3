package transport

import (
	"errors"
	"fmt"
	"net"
	"syscall"
)

var (
	// ErrQueueFull means that a work queue has no room; poll completions and post again.
	ErrQueueFull = errors.New("work queue is full")
	// ErrInterrupted is returned by calls that Interrupt has ended early.
	ErrInterrupted = errors.New("wait interrupted")
	// ErrNotConnected means that the queue pair is not in StateRTS.
	ErrNotConnected = errors.New("queue pair is not connected")
	// ErrNoDevice means that the transport has no usable device on this host.
	ErrNoDevice = errors.New("no rdma device")
	// ErrNoRoute means that no device reaches the address.
	ErrNoRoute = errors.New("no rdma device routes to the address")
	// ErrNotIWARP means that the peer answered with something other than MPA, or hung up on the MPA
	// request.
	ErrNotIWARP = errors.New("peer does not speak iwarp")
	// ErrHandshakeTimeout means that the peer did not complete the connection set-up in time. It is
	// a time-out in the sense of net.Error.
	ErrHandshakeTimeout error = handshakeTimeout{}
	// ErrClosed means that the queue pair was closed here. errors.Is finds net.ErrClosed in it.
	ErrClosed error = closedError{}
)

type closedError struct{}

func (closedError) Error() string { return "queue pair closed" }
func (closedError) Unwrap() error { return net.ErrClosed }

type handshakeTimeout struct{}

func (handshakeTimeout) Error() string   { return "iwarp connection set-up timed out" }
func (handshakeTimeout) Timeout() bool   { return true }
func (handshakeTimeout) Temporary() bool { return true }
func (handshakeTimeout) Is(target error) bool {
	return target == syscall.ETIMEDOUT
}

// A NotIWARPError is ErrNotIWARP together with what the peer did. errors.Is finds both in it.
type NotIWARPError struct{ Cause error }

func (e *NotIWARPError) Error() string { return ErrNotIWARP.Error() + ": " + e.Cause.Error() }

// Unwrap returns ErrNotIWARP and the cause.
func (e *NotIWARPError) Unwrap() []error { return []error{ErrNotIWARP, e.Cause} }

// A RejectedError is a peer's refusal of a connection request. errors.Is finds syscall.ECONNREFUSED
// in it.
type RejectedError struct {
	PrivateData []byte // what the peer said with it
}

func (e *RejectedError) Error() string {
	return fmt.Sprintf("connection request rejected by the peer with %d bytes of private data", len(e.PrivateData))
}

// Unwrap returns syscall.ECONNREFUSED.
func (e *RejectedError) Unwrap() error { return syscall.ECONNREFUSED }

// A TerminateError is an RDMAP Terminate (RFC 5040 §4.8) that ended the connection. errors.Is
// finds syscall.ECONNRESET in it.
type TerminateError struct {
	Layer, Type, Code uint8  // RFC 5040 §4.8, RFC 5041 §7, RFC 5044 §8
	Local             bool   // true if this end found the fault and sent the Terminate
	Text              string // layer, type and code in words
}

func (e *TerminateError) Error() string {
	who := "peer terminated the connection"
	if e.Local {
		who = "connection terminated for the peer's fault"
	}
	return fmt.Sprintf("%s: %s (layer %d, type %d, code %#02x)", who, e.Text, e.Layer, e.Type, e.Code)
}

// Unwrap returns syscall.ECONNRESET.
func (e *TerminateError) Unwrap() error { return syscall.ECONNRESET }
