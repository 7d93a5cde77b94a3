//go:build !linux

package keepalive

import (
	"errors"
	"net"
	"syscall"
)

// Of returns the settings of a socket, which only Linux is asked for.
func Of(syscall.RawConn) (net.KeepAliveConfig, error) {
	return net.KeepAliveConfig{}, errors.ErrUnsupported
}
