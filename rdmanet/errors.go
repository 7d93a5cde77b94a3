package rdmanet

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	"github.com/rdmanet/iwarp/rdmanet/internal/wire"
	"github.com/rdmanet/iwarp/transport"
)

// ErrProtocol is found by errors.Is in the error of a connection whose peer broke the rules of the
// rsocket protocol. Such an error also matches syscall.ECONNRESET.
var ErrProtocol = wire.ErrProtocol

// cause finds what goes into an OpError for an error of the queue pair during op.
func cause(op string, err error) error {
	var outer *net.OpError
	if errors.As(err, &outer) {
		err = outer.Err
	}
	switch {
	case errors.Is(err, net.ErrClosed):
		return net.ErrClosed
	case errors.Is(err, io.EOF):
		return io.ErrUnexpectedEOF
	}
	switch e := err.(type) {
	case syscall.Errno:
		return os.NewSyscallError(op, e)
	case *os.SyscallError:
		if e.Syscall == "read" || e.Syscall == "write" {
			// Which of the two has found out is of no use to the caller: either side's call does the work of
			// both.
			return os.NewSyscallError(op, e.Err)
		}
	}
	return err
}

// readError is what a Read returns once the queue pair has ended with err and everything before
// that has been read.
func readError(err error) error { return cause("read", err) }

// writeError is what a Write returns once the queue pair has ended with err.
func writeError(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return brokenPipe()
	}
	return cause("write", err)
}

func brokenPipe() error { return os.NewSyscallError("write", syscall.EPIPE) }

// opError wraps err, which must not be nil, as package net does.
func (c *Conn) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}

// failed is opError for a call that may have succeeded, or have come to the end of the stream. It
// is kept out of the frames of those calls.
//
//go:noinline
func (c *Conn) failed(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return c.opError(op, err)
}

// wasReset reports whether the peer has closed without reading everything, which resets a socket
// unless its stream has ended before. The caller holds mu.
func (c *Conn) wasReset() bool { return c.peer.disconnected() && c.peerLeftUnread && !c.peerShut }

// setError wraps err, which must not be nil, as package net does for settings of one end.
func (c *Conn) setError(err error) error {
	return &net.OpError{Op: "set", Net: "tcp", Addr: c.LocalAddr(), Err: err}
}

// fatal reports whether err, of Wait or Drain, means that the queue pair has ended.
func fatal(err error) bool {
	return err != nil && err != transport.ErrInterrupted && err != os.ErrDeadlineExceeded &&
		!errors.Is(err, transport.ErrInterrupted) && !errors.Is(err, os.ErrDeadlineExceeded)
}
