package lab

import (
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// pinned is a congestion control that keeps the host's default out of the figures: bbr, a common
// one, paces and has half of cubic's throughput on the loopback interface.
const pinned = "cubic"

// Congestion returns the congestion control that every path of this process is measured with. It is
// the host's default where the host lets nobody without a privilege choose the one that is meant.
var Congestion = sync.OnceValue(func() string {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return "unknown"
	}
	defer unix.Close(s)
	if unix.SetsockoptString(s, unix.IPPROTO_TCP, unix.TCP_CONGESTION, pinned) == nil {
		return pinned
	}
	name, err := unix.GetsockoptString(s, unix.IPPROTO_TCP, unix.TCP_CONGESTION)
	if err != nil {
		return "unknown"
	}
	return name
})

// pinCongestion is the Control of all sockets.
func pinCongestion(_, _ string, c syscall.RawConn) error {
	if Congestion() != pinned {
		return nil
	}
	var err error
	if e := c.Control(func(fd uintptr) {
		err = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, pinned)
	}); e != nil {
		return e
	}
	return err
}
