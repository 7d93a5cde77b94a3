package soft

import (
	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp/internal/sockfilter"
)

// deafness is a filter that leaves the header of each segment and cuts off what it carries. An
// acknowledgement, a window or the end of the stream still arrives, but nothing that a closed
// socket would have to answer with a reset: the peer's kernel sends that again, until it hears that
// everything is over.
var deafness = append(sockfilter.HeaderLen[:], unix.SockFilter{Code: unix.BPF_RET | unix.BPF_A})

// deafen makes the kernel take nothing more of what the peer sends, and reports whether it does.
// The effect outlives the descriptor. What has come before can still be read.
func (s *sock) deafen() (deaf bool) {
	_ = s.rc.Control(func(fd uintptr) {
		err := sockfilter.Attach(int(fd), deafness)
		deaf = err == nil && sockfilter.Len(int(fd)) == len(deafness)
	})
	return deaf
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
