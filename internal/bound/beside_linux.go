package bound

import (
	"errors"
	"net/netip"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp/internal/neterr"
	"github.com/rdmanet/iwarp/internal/probe"
	"github.com/rdmanet/iwarp/internal/sockdiag"
)

var errElsewhere = errors.New("sockets of another network namespace cannot be looked at")

// ListenedOn reports whether a socket other than s listens in its place. An error means that it is
// not known.
func (s *Socket) ListenedOn() (bool, error) {
	list, err := s.others(sockdiag.QueryListening)
	return len(list) > 0, err
}

// others returns the sockets other than s that are in its place, among those that query lists.
func (s *Socket) others(query func(port uint16) ([]sockdiag.Socket, error)) ([]sockdiag.Socket,
	error) {
	rc, err := s.f.SyscallConn()
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := do(rc, "fstat", func(fd int) error { return unix.Fstat(fd, &st) }); err != nil {
		return nil, err
	}
	switch ns, err := CurrentNetns(); {
	case err != nil:
		return nil, err
	case ns != s.at.Netns:
		return nil, errElsewhere
	}
	list, err := query(uint16(s.local.Port))
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(list, func(o sockdiag.Socket) bool {
		return uint64(o.Inode) == st.Ino || !s.at.InTheWay(o)
	}), nil
}

// CurrentNetns identifies the network namespace of the calling thread.
func CurrentNetns() (uint64, error) {
	fd, _, err := probe.Socket()
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	return netnsOf(fd), nil
}

// netnsOf is 0 before Linux 5.14.
func netnsOf(fd int) uint64 {
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return 0
	}
	return cookie
}

// OneFamily reports whether no socket can have both families, so that a wildcard has only one.
func OneFamily() bool {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return neterr.NoFamily(os.NewSyscallError("socket", err))
	}
	defer unix.Close(fd)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0)
	mapped := netip.MustParseAddr("::ffff:127.0.0.1")
	return errors.Is(unix.Bind(fd, &unix.SockaddrInet6{Addr: mapped.As16()}), unix.EADDRNOTAVAIL)
}

// clearingCounts reports whether the kernel refuses to bind with SO_REUSEADDR to the port of a
// socket that has cleared the option since it was bound: Linux 6.18 does, 6.1 does not until it
// listens.
var clearingCounts = probe.Once(func() (counts bool, err error) {
	var sa unix.Sockaddr
	for i := range 2 {
		fd, loopback, err := probe.Socket()
		if err != nil {
			return false, err
		}
		defer unix.Close(fd)
		if i == 0 {
			sa = loopback
		}
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return false, err
		}
		err = unix.Bind(fd, sa)
		if i == 1 {
			counts = errors.Is(err, unix.EADDRINUSE)
			if counts {
				err = nil
			}
			return counts, err
		}
		if err != nil {
			return false, err
		}
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 0); err != nil {
			return false, err
		}
		if sa, err = unix.Getsockname(fd); err != nil {
			return false, err
		}
	}
	return counts, nil
})

// makeKnown makes the kernel look at the sockets of the port again before it lets in another with
// SO_REUSEADDR. An older kernel remembers for each port whether all its sockets had the option when
// they were bound, and forgets that when one without it is bound to the port on any address, even
// one that the host does not have. There is no such address alongside a wildcard of both families,
// or alongside one of either family where a sandbox forbids the other.
func (s *Socket) makeKnown() {
	if clearingCounts() {
		return
	}
	const kind = unix.SOCK_STREAM | unix.SOCK_CLOEXEC
	sa := unix.Sockaddr(&unix.SockaddrInet4{Port: s.local.Port, Addr: [4]byte{127, 255, 255, 253}})
	fd, err := unix.Socket(unix.AF_INET, kind, 0)
	if err != nil || s.at.Addr == netip.IPv4Unspecified() {
		if err == nil {
			_ = unix.Close(fd)
		}
		sa = &unix.SockaddrInet6{Port: s.local.Port, Addr: [16]byte{0: 1, 15: 1}} // to discard: RFC 6666
		if fd, err = unix.Socket(unix.AF_INET6, kind, 0); err != nil {
			return
		}
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_FREEBIND, 1)
	}
	defer unix.Close(fd)
	_ = unix.Bind(fd, sa)
}
