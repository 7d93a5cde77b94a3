// Package keepalive sets TCP keep-alive as the fields of net.Dialer and net.ListenConfig ask for.
package keepalive

import (
	"net"
	"time"
)

// A Conn is a connection that can check on a silent peer.
type Conn interface {
	SetKeepAlive(bool) error
	SetKeepAliveConfig(net.KeepAliveConfig) error
}

// set gives a connection made of a bare socket, which has package net's default, what the fields of
// a Dialer or ListenConfig ask for.
func set(c Conn, idle time.Duration, config net.KeepAliveConfig) {
	switch {
	case config.Enable:
		_ = c.SetKeepAliveConfig(config)
	case idle < 0:
		_ = c.SetKeepAlive(false)
	case idle > 0:
		_ = c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: idle})
	}
}

// SetDevice does the same to a connection through a device, which has no default of its own.
func SetDevice(c Conn, idle time.Duration, config net.KeepAliveConfig) {
	if idle == 0 && !config.Enable {
		config.Enable = true
	}
	set(c, idle, config)
}

// SetAccepted does the same to a connection that l has accepted. What the fields leave alone is as
// on the listening socket, from which a connection inherits it before package net's default.
func SetAccepted(l *net.TCPListener, c *net.TCPConn, idle time.Duration, config net.KeepAliveConfig) {
	sets := idle >= 0
	if config.Enable {
		sets = config.Idle >= 0 && config.Interval >= 0 && config.Count >= 0
	}
	if !sets && inherit(l, c, idle, config) == nil {
		return
	}
	set(c, idle, config)
}

// SetDialed does what a Dialer of package net does with the fields, to a connection made of a
// socket that had these settings before it got package net's default: what the fields leave alone
// is as it was.
func SetDialed(c Conn, had net.KeepAliveConfig, idle time.Duration, config net.KeepAliveConfig) {
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

// inherit sets c as the fields ask for, and otherwise as l is set.
func inherit(l *net.TCPListener, c *net.TCPConn, idle time.Duration, config net.KeepAliveConfig) error {
	rc, err := l.SyscallConn()
	if err != nil {
		return err
	}
	had, err := Of(rc)
	if err == nil {
		SetDialed(c, had, idle, config)
	}
	return err
}
