package iwarp

import (
	"net"
	"time"
)

// setKeepAlive brings a connection made of a bare socket, which has package net's default, to what the
// fields of a Dialer or ListenConfig ask for.
func setKeepAlive(c *net.TCPConn, idle time.Duration, config net.KeepAliveConfig) {
	switch {
	case config.Enable:
		_ = c.SetKeepAliveConfig(config)
	case idle < 0:
		_ = c.SetKeepAlive(false)
	case idle > 0:
		_ = c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: idle})
	}
}
