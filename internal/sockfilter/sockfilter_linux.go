// Package sockfilter puts programs on sockets that decide what the kernel takes of a segment.
package sockfilter

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// HeaderLenAt is where the length of a TCP header is in it (RFC 9293 §3.1). A program's view of a
// segment begins with the header.
const HeaderLenAt = 12

// HeaderLen makes the accumulator the length of the TCP header.
var HeaderLen = [...]unix.SockFilter{
	{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: HeaderLenAt},
	{Code: unix.BPF_ALU | unix.BPF_RSH | unix.BPF_K, K: 2},
	{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: 0x3c},
}

// Attach puts prog on a socket, in place of what it had.
func Attach(fd int, prog []unix.SockFilter) error {
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(prog)), Filter: unsafe.SliceData(prog)})
}

// Len returns the number of instructions of the program that a socket has, or -1 if the kernel does
// not tell. A sandbox may take a program and do nothing with it.
func Len(fd int) int {
	n := uint32(0)
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_GET_FILTER,
		0, uintptr(unsafe.Pointer(&n)), 0)
	if errno != 0 {
		return -1
	}
	return int(n)
}
