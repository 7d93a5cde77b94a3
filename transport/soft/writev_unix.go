//go:build unix && !linux

package soft

import "golang.org/x/sys/unix"

const eor = 0

// iovecs are not needed where pieces are written one after another.
type iovecs struct{}

func (*vector) write(fd int, pieces [][]byte) (int, error) { return unix.Write(fd, pieces[0]) }

// readv reads to the first of several places that is not empty.
func readv(fd int, to [][]byte) (int, error) {
	for len(to[0]) == 0 {
		to = to[1:]
	}
	return unix.Read(fd, to[0])
}

// unacknowledged is not known here.
func (s *sock) unacknowledged() (int, bool) { return 0, false }

// readable returns 1 if something can be read. A look does not take an error off the socket here.
func readable(fd int) int {
	var b [1]byte
	n, _, err := unix.Recvfrom(fd, b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	if err != nil {
		return 0
	}
	return n
}

// peerGone is not known here.
func (s *sock) peerGone() bool { return false }
