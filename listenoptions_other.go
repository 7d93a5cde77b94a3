//go:build !linux

package iwarp

import (
	"errors"
	"net"
	"time"
)

func keepInherited(*net.TCPListener, *net.TCPConn, time.Duration, net.KeepAliveConfig) error {
	return errors.ErrUnsupported
}

// roundTrip is what only Linux tells. Half of a second reaches far.
func roundTrip(*net.TCPConn) time.Duration { return 160 * time.Millisecond }
