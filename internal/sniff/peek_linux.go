package sniff

import "golang.org/x/sys/unix"

// pollPeerClosed reports the peer's FIN while there are still bytes to read.
const pollPeerClosed = unix.POLLRDHUP

// unread returns how many bytes can be read. It leaves an error of the connection to its user,
// which a look at the bytes does only where there are some.
func unread(fd uintptr) (n int, known bool) {
	n, err := unix.IoctlGetInt(int(fd), unix.SIOCINQ)
	return n, err == nil
}
