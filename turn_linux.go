package iwarp

import (
	"context"
	"errors"
	"net/netip"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp/internal/sockdiag"
)

const (
	turnWait = 100 * time.Millisecond // longer than anybody's turn takes
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
func (s *socket) rivaled() bool {
	rc, err := s.f.SyscallConn()
	if err != nil {
		return false
	}
	var st unix.Stat_t
	if do(rc, "fstat", func(fd int) error { return unix.Fstat(fd, &st) }) != nil {
		return false
	}
	local := s.local.AddrPort()
	list, err := sockdiag.QueryUnconnected(local.Port())
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
