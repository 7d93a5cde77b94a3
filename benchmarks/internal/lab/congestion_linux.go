package lab

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// Congestion is the congestion control that every path is measured with.
const Congestion = "cubic"

// pinCongestion keeps the host's default out of the figures: bbr, a common one, paces and has half
// of cubic's throughput on the loopback interface.
func pinCongestion(_, _ string, c syscall.RawConn) error {
	var err error
	if e := c.Control(func(fd uintptr) {
		err = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, Congestion)
	}); e != nil {
		return e
	}
	return err
}
