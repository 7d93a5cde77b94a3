//go:build unix

package iwarp

import (
	"os"

	"golang.org/x/sys/unix"
)

// copyOf returns a copy of a descriptor that may not be there.
func copyOf(fd int, name string) (*os.File, error) {
	n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(n), name), nil
}

func closeFD(fd int) { _ = unix.Close(fd) }
