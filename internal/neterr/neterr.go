// Package neterr puts errors in the words of package net.
package neterr

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
	"time"
)

// Over returns the error of a context that has ended. A deadline that has passed counts even before
// the context's timer has noticed, as sockets have timers of their own.
func Over(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
		return context.DeadlineExceeded
	}
	return nil
}

// OfContext puts the error of a context in the words of package net.
func OfContext(err error) error {
	switch err {
	case context.Canceled:
		return canceledError{}
	case context.DeadlineExceeded:
		return timeoutError{}
	}
	return err
}

type canceledError struct{}

func (canceledError) Error() string        { return "operation was canceled" }
func (canceledError) Is(target error) bool { return target == context.Canceled }

type timeoutError struct{}

func (timeoutError) Error() string   { return "i/o timeout" }
func (timeoutError) Timeout() bool   { return true }
func (timeoutError) Temporary() bool { return true }
func (timeoutError) Is(target error) bool {
	return target == context.DeadlineExceeded || target == os.ErrDeadlineExceeded
}

// Bare takes off the outer *net.OpError, which the caller puts on with its own fields.
func Bare(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

// NoFamily reports whether err says that there are no sockets of an address family, as where a
// sandbox forbids them: a system call filter or a security module chooses its own error.
func NoFamily(err error) bool {
	var call *os.SyscallError
	if !errors.As(err, &call) || call.Syscall != "socket" {
		return false
	}
	switch call.Err {
	case syscall.EAFNOSUPPORT, syscall.EPROTONOSUPPORT, syscall.EPERM, syscall.EACCES:
		return true
	}
	return false
}

// IsLack reports whether err is a lack of this process's or host's: of descriptors or memory.
func IsLack(err error) bool {
	for _, of := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM} {
		if errors.Is(err, of) {
			return true
		}
	}
	return false
}
