//go:build !linux

package iwarp

import "net"

// seqNumber is of the first byte that a peer sends, which other systems than Linux do not tell.
type seqNumber uint32

func keepStarts(*net.TCPListener, bool) bool { return false }

// guard is what keeps a late MPA request from the user of a connection. Linux alone has one.
type guard struct{}

func guardStart(*halfOpen) guard { return guard{} }

func (guard) drop(*net.TCPConn) {}

func (guard) watch(*net.TCPConn, func()) {}

func refuseNew(*net.TCPListener) bool { return false }
