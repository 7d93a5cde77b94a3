package iwarp

import (
	"net"
	"time"
)

// keepAliver is a connection that can look after a silent peer.
type keepAliver interface {
	SetKeepAlive(bool) error
	SetKeepAliveConfig(net.KeepAliveConfig) error
}

// setKeepAlive brings a connection made of a bare socket, which has package net's default, to what
// the fields of a Dialer or ListenConfig ask for.
func setKeepAlive(c keepAliver, idle time.Duration, config net.KeepAliveConfig) {
	switch {
	case config.Enable:
		_ = c.SetKeepAliveConfig(config)
	case idle < 0:
		_ = c.SetKeepAlive(false)
	case idle > 0:
		_ = c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: idle})
	}
}

// setDeviceKeepAlive does the same to a connection through a device, which has no default of its
// own.
func setDeviceKeepAlive(c keepAliver, idle time.Duration, config net.KeepAliveConfig) {
	if idle == 0 && !config.Enable {
		config.Enable = true
	}
	setKeepAlive(c, idle, config)
}

// setAcceptedKeepAlive does the same to a connection that l has accepted. What the fields leave
// alone is as the listening socket has it, of which a connection inherits it before package net's
// default.
func setAcceptedKeepAlive(l *net.TCPListener, c *net.TCPConn, idle time.Duration, config net.KeepAliveConfig) {
	sets := idle >= 0
	if config.Enable {
		sets = config.Idle >= 0 && config.Interval >= 0 && config.Count >= 0
	}
	if !sets && keepInherited(l, c, idle, config) == nil {
		return
	}
	setKeepAlive(c, idle, config)
}
