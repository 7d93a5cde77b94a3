package sockdiag

import (
	"net/netip"
	"time"
)

// State is the state of a TCP socket as the kernel numbers it (include/net/tcp_states.h).
type State uint8

// States by which callers tell sockets apart.
const (
	Established State = 1
	TimeWait    State = 6
	Closed      State = 7 // what the kernel calls a socket that is only bound
	Listening   State = 10

	boundInactive State = 13 // only in requests, since Linux 6.8
)

// String returns the name that ss(8) has for the state; bound for Closed, as no other closed socket
// has a port.
func (s State) String() string {
	names := [...]string{"unknown", "established", "syn-sent", "syn-recv", "fin-wait-1", "fin-wait-2", "time-wait",
		"bound", "close-wait", "last-ack", "listening", "closing", "new-syn-recv", "bound"}
	if int(s) < len(names) {
		return names[s]
	}
	return names[0]
}

// A Socket is a TCP socket of the network namespace.
type Socket struct {
	Local, Remote netip.AddrPort // without zones; Remote has the address zero where there is no peer
	State         State
	V6Only        bool   // an IPv6 socket that leaves IPv4 alone
	Interface     uint32 // index of the interface that it is bound to, or 0
	UID           uint32
	Inode         uint32 // of the socket's file, 0 if it has none: TIME_WAIT, or closed by its process

	RecvQueue, SendQueue uint32 // bytes that nobody has read, and that the peer has not acknowledged; of a listener, clients that wait, and how many may
	TCP                  *TCP   // only from QueryDetailed
}

// TCP is what the kernel tells of a connection (struct tcp_info of linux/tcp.h). What an older
// kernel does not tell is 0.
type TCP struct {
	RoundTrip, RoundTripVar time.Duration
	MSS                     uint32
	Window                  uint32 // the congestion window, in segments
	Retransmitted           uint32 // segments, since the start
	BytesIn, BytesOut       uint64 // of stream, without what was repeated
	SegmentsIn, SegmentsOut uint32 // with data
	LastSent, LastReceived  time.Duration
	NotSent                 uint32 // of SendQueue
}

// Covers reports whether the socket's local address stands in the way of a bind to a: it is the
// same address, or one of the two is a wildcard that includes the other.
func (s Socket) Covers(a netip.Addr, v6only bool) bool {
	own := s.Local.Addr()
	if own.IsUnspecified() && (own.Is6() && !s.V6Only || own.Is4() == a.Unmap().Is4()) {
		return true
	}
	if a.IsUnspecified() && (a.Is6() && !v6only || a.Is4() == own.Unmap().Is4()) {
		return true
	}
	return own.Unmap().WithZone("") == a.Unmap().WithZone("")
}

// Meets reports whether the socket and one that is bound to the interface, or to none for 0, can be
// in each other's way: two that are bound to different interfaces never are.
func (s Socket) Meets(device uint32) bool {
	return s.Interface == 0 || device == 0 || s.Interface == device
}
