package sockdiag

import (
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp/internal/netlink"
	"github.com/rdmanet/iwarp/internal/probe"
)

// Query lists the TCP sockets of the calling thread's network namespace that have the local port,
// or all for 0. They include sockets that are only bound where BoundVisible says so. A socket may
// be listed although it is gone by then.
func Query(port uint16) ([]Socket, error) { return list(port, request(1<<(boundInactive+1)-1, port)) }

// QueryDetailed is Query for all ports, with what the kernel tells of each connection.
func QueryDetailed() ([]Socket, error) { return list(0, detailed(request(1<<(boundInactive+1)-1, 0))) }

// QueryUnconnected is Query for those sockets that listen or are only bound, and faster, as the
// kernel need not go through the table of its connections.
func QueryUnconnected(port uint16) ([]Socket, error) {
	return list(port, request(1<<Listening|1<<boundInactive, port))
}

// QueryListening is QueryUnconnected for those that listen.
func QueryListening(port uint16) ([]Socket, error) {
	return list(port, request(1<<Listening, port))
}

func list(port uint16, request []byte) ([]Socket, error) {
	nl, err := netlink.Open(unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, err
	}
	defer nl.Close()
	var list []Socket
	err = nl.Ask(typeGetTCP, netlink.Dump, request, func(b []byte) error {
		s, err := parseSocket(b)
		if s.Local.Port() != 0 && (port == 0 || port == s.Local.Port()) {
			list = append(list, s)
		}
		return err
	})
	return list, err
}

// Available returns nil if the kernel answers, and otherwise why it does not, as where a sandbox
// forbids netlink sockets.
func Available() error {
	_, err := QueryListening(1)
	return err
}

// BoundVisible reports whether the kernel lists sockets that are only bound. It tries with one of
// its own.
var BoundVisible = probe.Once(func() (bool, error) {
	fd, sa, err := probe.Socket()
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, sa); err != nil {
		return false, err
	}
	if sa, err = unix.Getsockname(fd); err != nil {
		return false, err
	}
	own := addrPort(sa)
	list, err := QueryUnconnected(own.Port())
	return slices.ContainsFunc(list, func(s Socket) bool { return s.State == Closed && s.Local == own }), err
})

func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
	}
	return netip.AddrPort{}
}
