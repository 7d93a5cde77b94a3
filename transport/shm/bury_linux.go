package shm

import (
	"net"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp/transport/internal/pool"
)

// A peer may send any descriptor, and one whose close blocks: a socket that lingers, a file of a
// file system that the peer serves itself. So what comes is never left to the kernel, which would
// close it in the call that reads or ends the socket, and nobody waits for it to be closed.

const (
	mostRights  = 253 // descriptors in a message (SCM_MAX_FD)
	soPassRight = 83  // SO_PASSRIGHTS of Linux 6.16

	mostReads = 32 // of a socket in a row

	gravediggers = 4
	mostGraves   = 64 // descriptors that may wait to be closed before no more are taken
)

var (
	rightsLen = unix.CmsgSpace(4 * mostRights)
	graves    graveyard
)

// A graveyard closes descriptors in a few goroutines, which are there while there are some.
type graveyard struct {
	mu      sync.Mutex
	waiting []int
	diggers int
}

// full reports whether so much waits to be closed that nothing more should be taken.
func (g *graveyard) full() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.waiting) >= mostGraves
}

func (g *graveyard) add(fd int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting = append(g.waiting, fd)
	if g.diggers < gravediggers {
		g.diggers++
		go g.dig()
	}
}

func (g *graveyard) dig() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for len(g.waiting) > 0 {
		fd := g.waiting[0]
		g.waiting = g.waiting[1:]
		g.mu.Unlock()
		_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{}) // if it is a socket
		_ = unix.Close(fd)
		g.mu.Lock()
	}
	g.diggers--
}

// bury closes a descriptor that a peer has sent.
func bury(fd int) {
	if fd < 0 {
		return
	}
	// What has seals is memory, which no file system of the peer's has a say in.
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0); err == nil {
		_ = unix.Close(fd)
		return
	}
	graves.add(fd)
}

// rightsIn returns the descriptors in a control message.
func rightsIn(control []byte) (all []int) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return nil // which the kernel does not make
	}
	for i := range messages {
		if fds, err := unix.ParseUnixRights(&messages[i]); err == nil { // otherwise credentials, or what else there may be
			all = append(all, fds...)
		}
	}
	return all
}

// discard reads what is there, and buries what came with it. Unless all is wanted it stops where
// there is probably no more, or where a peer makes it a long job.
func discard(fd int, all bool) {
	buf := pool.Get(rightsLen)
	defer pool.Put(buf)
	rights := (*buf)[:rightsLen]
	var data [64]byte
	for i := 0; all || i < mostReads; i++ {
		iov := unix.Iovec{Base: &data[0]}
		iov.SetLen(len(data))
		msg := unix.Msghdr{Iov: &iov, Control: &rights[0]}
		msg.SetIovlen(1)
		msg.SetControllen(len(rights))
		n, _, errno := unix.Syscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&msg)), unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			return
		}
		if msg.Controllen > 0 {
			for _, f := range rightsIn(rights[:msg.Controllen]) {
				bury(f)
			}
		}
		if n == 0 || !all && n < uintptr(len(data)) {
			return
		}
	}
}

// hangUp closes the socket to a peer.
func hangUp(c *net.UnixConn) {
	if raw, err := c.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { hangUpOn(int(fd)) })
	}
	if graves.full() {
		go func() { _ = c.Close() }()
		return
	}
	_ = c.Close()
}

// hangUpOn ends a socket, which can be closed then.
func hangUpOn(fd int) {
	_ = unix.Shutdown(fd, unix.SHUT_RDWR) // nothing more comes, so this ends
	if !graves.full() {
		discard(fd, true)
	}
}
