//go:build unix && !linux

package soft

import "golang.org/x/sys/unix"

const eor = 0

func writev(fd int, pieces [][]byte) (int, error) { return unix.Write(fd, pieces[0]) }

// unacknowledged is not known here; a connection is then seen off for as long as the limit allows.
func (s *sock) unacknowledged() int { return 1 }
