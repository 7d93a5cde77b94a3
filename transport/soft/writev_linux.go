package soft

import (
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

const eor = unix.MSG_EOR

type iovecs [maxPieces]unix.Iovec

// write writes pieces by one call. [unix.Writev] allocates for more than a few.
func (v *vector) write(fd int, pieces [][]byte) (int, error) {
	iovs := v.iovs[:len(pieces)]
	for i, p := range pieces {
		iovs[i].Base = unsafe.SliceData(p)
		iovs[i].SetLen(len(p))
	}
	n, _, errno := unix.Syscall(unix.SYS_WRITEV, uintptr(fd), uintptr(unsafe.Pointer(&iovs[0])), uintptr(len(iovs)))
	clear(iovs)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// readv reads to several places by one call.
func readv(fd int, to [][]byte) (int, error) { return unix.Readv(fd, to) }

// unacknowledged returns how many bytes the peer's kernel has not acknowledged yet, the end of the
// stream being one of them, and whether that is known.
func (s *sock) unacknowledged() (n int, known bool) {
	err := s.rc.Control(func(fd uintptr) {
		var err error
		n, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ)
		known = err == nil
	})
	return n, known && err == nil
}

// readable returns how many bytes can be read.
func readable(fd int) int {
	n, _ := unix.IoctlGetInt(fd, unix.SIOCINQ)
	return n
}

// peerGone reports whether the peer has ended its direction, or the connection has failed. The
// error stays with the socket.
func (s *sock) peerGone() bool {
	p := probes.Get().(*probe)
	defer probes.Put(p)
	p.gone = false
	_ = s.rc.Control(p.look)
	return p.gone
}

// A probe is what peerGone needs.
type probe struct {
	fds  [1]unix.PollFd
	gone bool
	look func(fd uintptr)
}

var probes = sync.Pool{New: func() any {
	p := new(probe)
	p.look = func(fd uintptr) {
		p.fds[0] = unix.PollFd{Fd: int32(fd), Events: unix.POLLRDHUP}
		n, err := unix.Poll(p.fds[:], 0)
		p.gone = err == nil && n > 0
	}
	return p
}}
