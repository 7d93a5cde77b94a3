package iwarp

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// keepInherited sets c as the fields ask for, and otherwise as l is set.
func keepInherited(l *net.TCPListener, c *net.TCPConn, idle time.Duration, config net.KeepAliveConfig) error {
	rc, err := l.SyscallConn()
	if err != nil {
		return err
	}
	had, err := socketKeepAlive(rc)
	if err == nil {
		setDialedKeepAlive(c, had, idle, config)
	}
	return err
}

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
