package iwarp

import (
	"context"
	"errors"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp/internal/sockdiag"
)

const (
	turnWait = 300 * time.Millisecond // longer than anybody's turn takes
	turnPoll = 200 * time.Microsecond
)

// turn waits until no other process of the network namespace is at it with the port, and returns what ends the turn. The name of an
// abstract Unix socket (unix(7)) is the lock: the kernel takes it away when its owner dies. Who keeps it for longer than
// a turn takes is not waited for.
func turn(ctx context.Context, port int) (end func()) {
	none := func() {}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return none
	}
	limit := time.NewTimer(turnWait)
	defer limit.Stop()
	poll := time.NewTicker(turnPoll)
	defer poll.Stop()
	name := &unix.SockaddrUnix{Name: "@github.com/rdmanet/iwarp/port/" + strconv.Itoa(port)}
	for {
		err := unix.Bind(fd, name)
		if err == nil {
			return func() { _ = unix.Close(fd) }
		}
		if !errors.Is(err, unix.EADDRINUSE) {
			break
		}
		select {
		case <-poll.C:
			continue
		case <-limit.C:
		case <-ctx.Done():
		}
		break
	}
	_ = unix.Close(fd)
	return none
}

// rivaled reports whether another socket than s listens on the address, or is bound to it where the kernel lists such sockets.
func (s *socket) rivaled() bool { return s.beside(sockdiag.QueryUnconnected) }

// listenedOn reports whether another socket than s listens on the address.
func (s *socket) listenedOn() bool { return s.beside(sockdiag.QueryListening) }

// beside reports whether another socket than s is among those of the port and in the way of its address.
func (s *socket) beside(query func(port uint16) ([]sockdiag.Socket, error)) bool {
	rc, err := s.f.SyscallConn()
	if err != nil {
		return false
	}
	var st unix.Stat_t
	if do(rc, "fstat", func(fd int) error { return unix.Fstat(fd, &st) }) != nil {
		return false
	}
	local := s.local.AddrPort()
	list, err := query(local.Port())
	if err != nil {
		return false
	}
	for _, other := range list {
		if uint64(other.Inode) != st.Ino && other.Covers(host(local.Addr(), s.v6), s.only6) {
			return true
		}
	}
	return false
}

// host is a in the family of the socket.
func host(a netip.Addr, v6 bool) netip.Addr {
	if v6 && a.IsUnspecified() {
		return netip.IPv6Unspecified()
	}
	return a.Unmap()
}

// clearingCounts reports whether the kernel refuses to bind with SO_REUSEADDR to the port of a socket that has cleared the option
// since it was bound: Linux 6.18 does, 6.1 does not until it listens. It is tried out once.
var clearingCounts = sync.OnceValue(func() bool {
	var fds [2]int
	sa := unix.Sockaddr(&unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	var err error
	for i := range fds {
		fd, serr := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if serr != nil {
			return false
		}
		defer unix.Close(fd)
		if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) != nil {
			return false
		}
		if err = unix.Bind(fd, sa); i == 0 {
			if err != nil || unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 0) != nil {
				return false
			}
			if sa, err = unix.Getsockname(fd); err != nil {
				return false
			}
		}
	}
	return errors.Is(err, unix.EADDRINUSE)
})

// makeKnown has the kernel look at the sockets of the port again before it lets another with SO_REUSEADDR in. An older kernel remembers for
// each port whether all its sockets had the option when they were bound, and forgets that when one without it is bound to the port on
// any address. There is no such address beside a wildcard of both families.
func (s *socket) makeKnown() {
	if clearingCounts() {
		return
	}
	family, sa := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Port: s.local.Port, Addr: [4]byte{127, 255, 255, 253}})
	if !s.v6 && isWildcard(s.local.IP) {
		family, sa = unix.AF_INET6, &unix.SockaddrInet6{Port: s.local.Port, Addr: netip.IPv6Loopback().As16()}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	if family == unix.AF_INET6 {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
	}
	_ = unix.Bind(fd, sa)
}
