package iwarp

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// roundTrip returns the time to the peer and back, as measured so far, or 0.
func roundTrip(c *net.TCPConn) (d time.Duration) {
	rc, err := c.SyscallConn()
	if err != nil {
		return 0
	}
	_ = rc.Control(func(fd uintptr) {
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			d = time.Duration(info.Rtt) * time.Microsecond
		}
	})
	return d
}
