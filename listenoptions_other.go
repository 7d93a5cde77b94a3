//go:build !linux

package iwarp

import (
	"net"
	"time"
)

// roundTrip is what only Linux tells. Half of a second reaches far.
func roundTrip(*net.TCPConn) time.Duration { return 160 * time.Millisecond }
