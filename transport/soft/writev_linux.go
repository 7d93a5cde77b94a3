package soft

import "golang.org/x/sys/unix"

const eor = unix.MSG_EOR

func writev(fd int, pieces [][]byte) (int, error) { return unix.Writev(fd, pieces) }

// unacknowledged returns how many bytes the peer's kernel has not acknowledged yet, the end of the
// stream being one of them, and whether that is known.
func (s *sock) unacknowledged() (n int, known bool) {
	err := s.rc.Control(func(fd uintptr) {
		var err error
		n, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ)
		known = err == nil
	})
	return n, known && err == nil
}

// readable returns how many bytes can be read.
func readable(fd int) int {
	n, _ := unix.IoctlGetInt(fd, unix.SIOCINQ)
	return n
}

// peerGone reports whether the peer has ended its direction, or the connection has failed. The
// error stays with the socket.
func (s *sock) peerGone() (gone bool) {
	_ = s.rc.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		n, err := unix.Poll(fds, 0)
		gone = err == nil && n > 0
	})
	return gone
}
