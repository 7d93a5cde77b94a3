package soft

import "golang.org/x/sys/unix"

const eor = unix.MSG_EOR

func writev(fd int, pieces [][]byte) (int, error) { return unix.Writev(fd, pieces) }

// unacknowledged returns how many bytes the peer's kernel has not acknowledged yet.
func (s *sock) unacknowledged() int {
	n := 0
	s.rc.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
	return n
}
