//go:build !linux

package keepalive

import (
	"errors"
	"net"
	"syscall"
)

// Of would return the settings of a socket; only Linux is asked for them.
func Of(syscall.RawConn) (net.KeepAliveConfig, error) {
	return net.KeepAliveConfig{}, errors.ErrUnsupported
}
