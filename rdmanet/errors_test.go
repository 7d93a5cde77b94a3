package rdmanet

import (
	"io"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCauseOfFailure(t *testing.T) {
	reset := os.NewSyscallError("read", syscall.ECONNRESET)
	for _, c := range []struct {
		name             string
		err, read, write error
	}{
		{"found by a write", os.NewSyscallError("write", syscall.ECONNRESET), reset, os.NewSyscallError("write", syscall.ECONNRESET)},
		{"found by a read", reset, reset, os.NewSyscallError("write", syscall.ECONNRESET)},
		{"bare", syscall.ECONNRESET, reset, os.NewSyscallError("write", syscall.ECONNRESET)},
		{"of a socket", &net.OpError{Op: "write", Err: os.NewSyscallError("write", syscall.ECONNRESET)}, reset, os.NewSyscallError("write", syscall.ECONNRESET)},
		{"another call", os.NewSyscallError("wsarecv", syscall.ECONNRESET), os.NewSyscallError("wsarecv", syscall.ECONNRESET), os.NewSyscallError("wsarecv", syscall.ECONNRESET)},
		{"end of the stream below", io.EOF, io.ErrUnexpectedEOF, os.NewSyscallError("write", syscall.EPIPE)},
		{"closed", net.ErrClosed, net.ErrClosed, net.ErrClosed},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.Equal(t, c.read, readError(c.err))
			require.Equal(t, c.write, writeError(c.err))
		})
	}
}
