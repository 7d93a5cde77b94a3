//go:build unix && !linux

package soft

import "golang.org/x/sys/unix"

const eor = 0

func writev(fd int, pieces [][]byte) (int, error) { return unix.Write(fd, pieces[0]) }

// unacknowledged is not known here.
func (s *sock) unacknowledged() (int, bool) { return 0, false }
