//go:build amd64 || arm64

package rnic

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"syscall"

	"github.com/rdmanet/iwarp/transport"
)

var (
	errLoopback    = errors.New("loopback addresses are not reached through devices")
	errPrivateData = fmt.Errorf("private data is longer than %d bytes", maxPrivate)
	errNoMemory    = errors.New("memory must come from AllocateMemory")
	errNotInRegion = errors.New("data does not lie in the region")
	errNoRegion    = errors.New("request needs a region of this queue pair with the right to it")
	errInline      = errors.New("inline data is longer than Attributes.MaxInline")
	errOpcode      = errors.New("opcode is not one of a send request, or not one of this device")
	errUnanswered  = &brokenError{errors.New("an rdma read was not answered")}
	errNotOpened   = errors.New("librdmacm could not open the device")
	errHungUp      = errors.New("peer hung up on the connection request, or refused it without a word")
)

// A routeError is ErrNoRoute with the address and what the kernel said.
type routeError struct {
	remote netip.AddrPort
	cause  error
}

func (e *routeError) Error() string {
	return fmt.Sprintf("%v %v: %v", transport.ErrNoRoute, e.remote, e.cause)
}
func (e *routeError) Unwrap() []error { return []error{transport.ErrNoRoute, e.cause} }

// A shortageError is a lack of something on this host. It is temporary in the sense of net.Error.
type shortageError struct{ error }

func (e *shortageError) Unwrap() error   { return e.error }
func (e *shortageError) Timeout() bool   { return false }
func (e *shortageError) Temporary() bool { return true }

// unavailable names what an error of the first call to the libraries says about the machine.
func unavailable(err error) error {
	switch {
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return &UnavailableError{NoPermission, err}
	case errors.Is(err, syscall.ENODEV), errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ENOSYS), errors.Is(err, syscall.ENXIO):
		return &UnavailableError{NoConnection, err}
	}
	return err
}

// registration names the usual cause of a region that could not be had.
func registration(err error) error {
	if errors.Is(err, syscall.ENOMEM) || errors.Is(err, syscall.EPERM) {
		return &UnavailableError{NoMemory, err}
	}
	return err
}

// endOfStream is the error of a queue pair that the peer has closed.
var endOfStream error = io.EOF

var (
	errRemoved error = &lostError{"rdma device was removed"}
	errFailed  error = &lostError{"rdma device has failed"}
)

// A lostError says what has happened to the device below a connection.
type lostError struct{ text string }

func (e *lostError) Error() string   { return e.text }
func (e *lostError) Unwrap() []error { return []error{transport.ErrNoDevice, syscall.ECONNRESET} }

// A completionError is a work request that failed, with which the connection is at its end.
type completionError struct {
	status, vendor uint32
	cause          syscall.Errno
}

func (e *completionError) Error() string {
	return fmt.Sprintf("rdma work request failed: %v (status %d, vendor error %d)", e.cause, e.status, e.vendor)
}
func (e *completionError) Unwrap() error { return e.cause }
func (e *completionError) Timeout() bool { return e.cause.Timeout() }

// A brokenError is a device's refusal to go on with a connection. To its user it is a reset.
type brokenError struct{ cause error }

func brokenBy(err error) error { return &brokenError{err} }

func (e *brokenError) Error() string   { return "rdma connection is broken: " + e.cause.Error() }
func (e *brokenError) Unwrap() []error { return []error{syscall.ECONNRESET, e.cause} }
