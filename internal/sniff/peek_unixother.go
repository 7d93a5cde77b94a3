//go:build unix && !linux

package sniff

import "golang.org/x/sys/unix"

// pollPeerClosed is not available everywhere: a FIN after a few bytes of the MPA key is noticed by
// time-out.
const pollPeerClosed = 0

func unread(uintptr) (n int, known bool) { return 0, false }

// glimpse gets the first bytes without taking them.
func glimpse(fd uintptr, b []byte) (int, error) {
	n, _, err := unix.Recvfrom(int(fd), b, unix.MSG_PEEK)
	return n, err
}
