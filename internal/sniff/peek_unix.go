//go:build unix

package sniff

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// CanPeek reports whether the system lets bytes be looked at.
const CanPeek = true

// peeker looks at the first bytes of a connection and leaves them there.
type peeker struct {
	buf [len(Key)]byte
	n   int
}

// peek gets what is there without waiting. It reports ended if no more bytes will come. The error
// is that of the connection.
func (p *peeker) peek(fd uintptr) (ended bool, err error) {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN | pollPeerClosed}}
	if _, err := unix.Poll(fds, 0); err == unix.EINTR {
		return p.peek(fd)
	} else if err != nil {
		return false, err
	}
	events := fds[0].Revents
	n, known := unread(fd)
	switch {
	case events == 0:
		return false, nil
	case known && n == 0:
		return events&(unix.POLLERR|unix.POLLHUP|pollPeerClosed) != 0, nil
	case !known && events&unix.POLLERR != 0:
		// Receiving would take the error away from the user of the connection.
		return true, nil
	}
	n, _, err = unix.Recvfrom(int(fd), p.buf[:], unix.MSG_PEEK)
	switch {
	case err == syscall.EAGAIN, err == syscall.EINTR:
		return false, nil
	case err != nil:
		return true, err
	}
	p.n = n
	return n == 0 || events&(unix.POLLERR|unix.POLLHUP|pollPeerClosed) != 0, nil
}
