package iwarp

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// socketKeepAlive returns the settings of a socket.
func socketKeepAlive(c syscall.RawConn) (net.KeepAliveConfig, error) {
	var values [4]int
	err := do(c, "getsockopt", func(fd int) (err error) {
		for i, o := range [...][2]int{
			{unix.SOL_SOCKET, unix.SO_KEEPALIVE}, {unix.IPPROTO_TCP, unix.TCP_KEEPIDLE},
			{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL}, {unix.IPPROTO_TCP, unix.TCP_KEEPCNT},
		} {
			if values[i], err = unix.GetsockoptInt(fd, o[0], o[1]); err != nil {
				break
			}
		}
		return err
	})
	return net.KeepAliveConfig{
		Enable: values[0] != 0, Count: values[3],
		Idle: time.Duration(values[1]) * time.Second, Interval: time.Duration(values[2]) * time.Second,
	}, err
}

// setDialedKeepAlive does what a Dialer of package net does with the fields, to a connection made
// of a socket that had the settings before it got package net's default: what they leave alone is
// as it was.
func setDialedKeepAlive(c keepAliver, had net.KeepAliveConfig, idle time.Duration, config net.KeepAliveConfig) {
	switch {
	case !config.Enable && idle < 0:
		config = had
	case !config.Enable:
		config = net.KeepAliveConfig{Enable: true, Idle: idle}
	}
	if config.Idle < 0 {
		config.Idle = had.Idle
	}
	if config.Interval < 0 {
		config.Interval = had.Interval
	}
	if config.Count < 0 {
		config.Count = had.Count
	}
	_ = c.SetKeepAliveConfig(config)
}
