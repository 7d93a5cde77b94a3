//go:build !linux

package guard

import "net"

// KeepStarts is what only Linux can do.
func KeepStarts(*net.TCPListener, bool) bool { return false }

// A Guard is a filter on a connection. Linux alone has one.
type Guard struct{}

// On does nothing.
func On(*net.TCPConn, *Start, string, int, int) Guard { return Guard{} }

// Lift does nothing.
func (Guard) Lift(*net.TCPConn) {}

// Watch does nothing.
func (Guard) Watch(*net.TCPConn, func()) {}

// RefuseNew is what only Linux can do.
func RefuseNew(*net.TCPListener) bool { return false }
