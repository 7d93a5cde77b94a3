package keepalive

import (
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Of returns the settings of a socket.
func Of(c syscall.RawConn) (net.KeepAliveConfig, error) {
	var values [4]int
	var err error
	cerr := c.Control(func(fd uintptr) {
		for i, o := range [...][2]int{
			{unix.SOL_SOCKET, unix.SO_KEEPALIVE}, {unix.IPPROTO_TCP, unix.TCP_KEEPIDLE},
			{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL}, {unix.IPPROTO_TCP, unix.TCP_KEEPCNT},
		} {
			if values[i], err = unix.GetsockoptInt(int(fd), o[0], o[1]); err != nil {
				break
			}
		}
	})
	if cerr != nil {
		return net.KeepAliveConfig{}, cerr
	}
	return net.KeepAliveConfig{
		Enable: values[0] != 0, Count: values[3],
		Idle: time.Duration(values[1]) * time.Second, Interval: time.Duration(values[2]) * time.Second,
	}, os.NewSyscallError("getsockopt", err)
}
