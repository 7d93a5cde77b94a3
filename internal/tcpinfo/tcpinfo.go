// Package tcpinfo says how the kernel sees a TCP connection.
package tcpinfo

import "time"

// Info is what the kernel knows about a connection.
type Info struct {
	RoundTrip time.Duration // smoothed; 0 if nothing has been measured yet
	Sent      bool          // data was sent
	Unacked   bool          // the peer has not acknowledged everything that was written
	SinceAck  time.Duration // since the latest confirmation, in steps of some milliseconds

	State                   uint8  // as the kernel numbers it, 1 for an established connection
	Received, Written       uint64 // bytes of stream that came, and that went out, without what was repeated
	SegmentsIn, SegmentsOut uint64 // with data
	Retransmitted           uint64 // segments
	MSS                     int    // of what is sent
}
