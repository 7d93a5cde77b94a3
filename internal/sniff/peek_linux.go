package sniff

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// pollPeerClosed reports the peer's FIN while there are still bytes to read.
const pollPeerClosed = unix.POLLRDHUP

// unread returns how many bytes can be read. It leaves an error of the connection to its user,
// which a look at the bytes does only where there are some.
func unread(fd uintptr) (n int, known bool) {
	n, err := unix.IoctlGetInt(int(fd), unix.SIOCINQ)
	return n, err == nil
}

// glimpse gets the first bytes without taking them. unix.Recvfrom would allocate.
func glimpse(fd uintptr, b []byte) (int, error) {
	n, _, errno := unix.Syscall6(unix.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_PEEK, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
