// Package bound makes the system calls on TCP sockets that hold a port.
package bound

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
	"time"
)

// Control is the type of Control fields.
type Control = func(network, address string, c syscall.RawConn) error

// A Use is what a socket is bound for.
type Use uint8

const (
	ToUse    Use = iota // to listen or to connect later
	ToListen            // to listen at once
	ToHold              // to hold the port, and for nothing else
)

// Options are what a dial wants of its socket.
type Options struct {
	Control         func(ctx context.Context, network, address string, c syscall.RawConn) error
	KeepAlive       time.Duration
	KeepAliveConfig net.KeepAliveConfig
}

// Why a file cannot be adopted.
var (
	ErrNotTCP    = errors.New("file is not a TCP socket")
	ErrNotBound  = errors.New("socket is not bound to a port")
	ErrConnected = errors.New("socket is connected")
)

// ErrTaken is what the kernel says about a port that somebody has.
var ErrTaken = os.NewSyscallError("bind", syscall.EADDRINUSE)

// A LostError says that somebody else has the port of a socket that held it.
type LostError struct{ error }

// Unwrap returns the error of the system.
func (e LostError) Unwrap() error { return e.error }
