package soft

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// deafness is a filter that leaves the header of each segment and cuts off what it carries. An
// acknowledgement, a window or the end of the stream still arrives, but nothing that a closed
// socket would have to answer with a reset: the peer's kernel sends that again, until it hears that
// everything is over.
var deafness = [...]unix.SockFilter{
	{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: tcpOffset},
	{Code: unix.BPF_ALU | unix.BPF_RSH | unix.BPF_K, K: 2},
	{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: 0x3c}, // length of the header
	{Code: unix.BPF_RET | unix.BPF_A},
}

// tcpOffset is where the length of a TCP header is in it (RFC 9293 §3.1). A filter's view of a
// segment begins with the header.
const tcpOffset = 12

// deafen makes the kernel take nothing more of what the peer sends, and reports whether it does.
// The effect outlives the descriptor. What has come before can still be read.
func (s *sock) deafen() (deaf bool) {
	_ = s.rc.Control(func(fd uintptr) {
		prog := deafness
		err := unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
			&unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]})
		deaf = err == nil && filterLen(int(fd)) == len(prog) // a sandbox may take it and do nothing
	})
	return deaf
}

// filterLen returns the number of instructions of the filter that fd has.
func filterLen(fd int) int {
	var n uint32
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_GET_FILTER,
		0, uintptr(unsafe.Pointer(&n)), 0)
	if errno != 0 {
		return 0
	}
	return int(n)
}

// unsent returns how many bytes the kernel has not sent even once, because the peer has no room for
// them or the network would be flooded.
func (s *sock) unsent() (n int) {
	_ = s.rc.Control(func(fd uintptr) {
		n, _ = unix.IoctlGetInt(int(fd), unix.SIOCOUTQNSD)
	})
	return n
}

// fullBuffer is what a transmit buffer may be set to by default. The kernel doubles it.
const fullBuffer = 208 << 10

// widen makes the kernel take more that it cannot send yet, unless it already takes much.
func (s *sock) widen() {
	_ = s.rc.Control(func(fd uintptr) {
		n, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF)
		if err == nil && n < 2*fullBuffer {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, fullBuffer)
		}
	})
}
