package soft

import (
	"net"

	"golang.org/x/sys/unix"
)

// LockFilter has the kernel refuse to filter what arrives for q.
func LockFilter(q *queuePair) (err error) {
	q.sock.rc.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_LOCK_FILTER, 1) })
	return err
}

// DropAll has the kernel drop all that arrives for c.
func DropAll(c *net.TCPConn) error {
	rc, err := c.SyscallConn()
	if err != nil {
		return err
	}
	drop := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K}}
	rc.Control(func(fd uintptr) {
		err = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &drop[0]})
	})
	return err
}
