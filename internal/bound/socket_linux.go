package bound

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp/internal/netaddr"
	"github.com/rdmanet/iwarp/internal/neterr"
)

// maxBacklog is cut by the kernel to net.core.somaxconn, which is what package net asks for.
const maxBacklog = 1<<16 - 1

// A Socket is a bound TCP socket that neither listens nor is connected.
type Socket struct {
	f     *os.File
	v6    bool
	only6 bool
	local *net.TCPAddr
	at    Binding // also of one that could not be bound, as far as it got

	shared    bool   // another process may have it as well
	listener  bool   // listens at once, with what its Control function made of it
	idle      bool   // nothing is waited for on it
	shares    bool   // has SO_REUSEPORT, which lets others of the user listen as well
	shareNext bool   // gets it when it listens
	mayOver   bool   // is bound over remains of connections where there are some
	over      bool   // was
	ports     [2]int // that IP_LOCAL_PORT_RANGE leaves to choose from, if not zero
}

// bindTries bounds the search for a port that can be bound by number.
const bindTries = 16

// Bind binds a socket so that nobody else gets in and remains of earlier connections are not in the
// way.
//
// A socket keeps its port when a connect fails only if it was bound to the port by its number. So
// for port 0 a first socket finds the port and a second one is bound to it, unless it will never
// connect; the Control function of a listener must be called only once, as by package net.
//
// After an error the socket is closed, and says where it would have been. A listener listens at
// once.
func Bind(ctx context.Context, network string, addr *net.TCPAddr, control Control, use Use) (*Socket, error) {
	s := &Socket{v6: network == "tcp6" || network == "tcp" && addr.IP.To4() == nil, only6: network == "tcp6", listener: use == ToListen, idle: use == ToHold}
	dual := network == "tcp" && netaddr.IsWildcard(addr.IP)
	if dual {
		s.v6 = true
	}
	err := s.claim(ctx, addr, control)
	if dual && (neterr.NoFamily(err) || errors.Is(err, syscall.EADDRNOTAVAIL)) {
		s.v6 = false
		err = s.claim(ctx, addr, control)
	}
	for try := 1; err == nil && addr.Port == 0 && use == ToUse; try++ {
		numbered := *addr
		numbered.Port = s.local.Port
		_ = s.Close()
		if err = s.open(&numbered, control, false); err == nil {
			return s, nil
		}
		if try < bindTries && errors.Is(err, syscall.EADDRINUSE) {
			err = s.open(addr, control, false)
		}
	}
	if addr.Port == 0 && errors.Is(err, syscall.EADDRINUSE) {
		err = s.search(ctx, addr, control)
	}
	return s, err
}

// reuse sets or clears SO_REUSEADDR.
func (s *Socket) reuse(on bool) error {
	rc, err := s.f.SyscallConn()
	if err != nil {
		return err
	}
	v := 0
	if on {
		v = 1
	}
	return s.set(rc, unix.SOL_SOCKET, unix.SO_REUSEADDR, v)
}

// ShareAddress lets a socket that will be bound have the port of one that admits it.
func ShareAddress(rc syscall.RawConn) error {
	return do(rc, "setsockopt", func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
}

// Admit lets another socket with SO_REUSEADDR bind to the port too, or ends that.
func (s *Socket) Admit(on bool) error {
	err := s.reuse(on)
	if !on {
		s.makeKnown()
	}
	return err
}

// create makes the socket, for the address.
func (s *Socket) create(address string) error {
	family := unix.AF_INET
	if s.v6 {
		family = unix.AF_INET6
	}
	kind := unix.SOCK_STREAM | unix.SOCK_CLOEXEC
	if !s.idle { // otherwise the runtime's poller, which would be woken at once, has nothing to do with it
		kind |= unix.SOCK_NONBLOCK
	}
	fd, err := unix.Socket(family, kind, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	s.f = os.NewFile(uintptr(fd), "tcp:"+address)
	return nil
}

func (s *Socket) open(addr *net.TCPAddr, control Control, reuse bool) error {
	if err := s.create(addr.String()); err != nil {
		return err
	}
	bound := false
	defer func() {
		if !bound { // also if control panics
			_ = s.f.Close()
		}
	}()
	if err := s.bind(addr, control, reuse); err != nil {
		return err
	}
	bound = true
	return nil
}

func (s *Socket) bind(addr *net.TCPAddr, control Control, reuse bool) error {
	sa, err := s.sockaddr(addr)
	if err != nil {
		return err
	}
	rc, err := s.f.SyscallConn()
	if err != nil {
		return err
	}
	if err := s.families(rc); err != nil {
		return err
	}
	if reuse {
		if err := s.reuse(true); err != nil {
			return err
		}
	}
	if control != nil {
		if err := control(s.network(), addr.String(), rc); err != nil {
			return err
		}
		if err := s.restrain(rc, reuse); err != nil {
			return err
		}
	}
	bind := func(fd int) error { return unix.Bind(fd, sa) }
	err = do(rc, "bind", bind)
	if s.mayOver && errors.Is(err, syscall.EADDRINUSE) && s.reuse(true) == nil {
		s.over = true
		err = do(rc, "bind", bind) // the same socket, so that control is called once
	}
	if err == nil {
		err = do(rc, "getsockname", func(fd int) error {
			sa, err := unix.Getsockname(fd)
			if err == nil {
				s.local = tcpAddr(sa)
			}
			return err
		})
	}
	if err != nil {
		s.locate(rc, addr) // for whoever asks what is in the way
		return err
	}
	s.locate(rc, s.local)
	return nil
}

// families makes an IPv6 socket leave IPv4 alone or not. Where that cannot be set it goes on with
// what the system has, like package net.
func (s *Socket) families(rc syscall.RawConn) error {
	if !s.v6 {
		return nil
	}
	only := 0
	if s.only6 {
		only = 1
	}
	if s.set(rc, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only) == nil {
		return nil
	}
	return do(rc, "getsockopt", func(fd int) error {
		v, err := unix.GetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY)
		s.only6 = v != 0
		return err
	})
}

// restrain takes back what a Control function may have set that lets others have the port or leaves
// the socket without one, and records what it has set that matters later.
func (s *Socket) restrain(rc syscall.RawConn, reuse bool) error {
	if err := s.reuse(reuse); err != nil {
		return err
	}
	var late, shares, ports int
	if cerr := rc.Control(func(fd uintptr) {
		// A kernel that lacks an option has it off.
		late, _ = unix.GetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT)
		shares, _ = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT)
		ports, _ = unix.GetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_LOCAL_PORT_RANGE)
	}); cerr != nil {
		return cerr
	}
	s.ports = [2]int{ports & 0xffff, ports >> 16 & 0xffff}
	s.shares, s.shareNext = shares != 0 && s.listener, shares != 0 && !s.listener
	if s.shareNext {
		if err := s.set(rc, unix.SOL_SOCKET, unix.SO_REUSEPORT, 0); err != nil {
			return err
		}
	}
	if late != 0 {
		return s.set(rc, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 0)
	}
	return nil
}

// locate records the place of the socket, which is or will be bound to addr.
func (s *Socket) locate(rc syscall.RawConn, addr *net.TCPAddr) {
	s.at = bindingOf(addr, s.v6, s.only6)
	_ = rc.Control(func(fd uintptr) {
		s.at.Netns = netnsOf(int(fd))
		if v, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX); err == nil {
			s.at.Device = uint32(v)
		}
	})
}

// DeviceOf returns the interface that a Control function binds sockets to, by trying it on one that
// is not bound to a port.
func DeviceOf(network, address string, control Control) (uint32, error) {
	s := &Socket{v6: network == "tcp6"}
	if err := s.create(address); err != nil {
		return 0, err
	}
	defer s.f.Close()
	rc, err := s.f.SyscallConn()
	if err != nil {
		return 0, err
	}
	if err := control(network, address, rc); err != nil {
		return 0, err
	}
	s.locate(rc, &net.TCPAddr{})
	return s.at.Device, nil
}

// network is the name that package net gives Control functions.
func (s *Socket) network() string {
	if s.v6 {
		return "tcp6"
	}
	return "tcp4"
}

// TCPAddr returns the address with the port.
func (s *Socket) TCPAddr() *net.TCPAddr { return s.local }

// At returns where the socket is bound, or would have been.
func (s *Socket) At() Binding { return s.at }

// Close gives the port back.
func (s *Socket) Close() error { return s.f.Close() }

// Listen makes a listener of the socket, which after an error holds the port as before, unless that
// is a LostError.
func (s *Socket) Listen(control Control) (*net.TCPListener, error) {
	rc, err := s.f.SyscallConn()
	if err != nil {
		return nil, err
	}
	before := s.Listens()
	if control != nil {
		if err := control(s.network(), s.local.String(), rc); err != nil {
			return nil, err
		}
	}
	if s.shareNext {
		if err := s.set(rc, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
			return nil, err
		}
	}
	if control != nil && !before {
		if err := s.reuse(false); err != nil { // which it may have set
			return nil, err
		}
	}
	err = do(rc, "listen", func(fd int) error { return unix.Listen(fd, maxBacklog) })
	if errors.Is(err, syscall.EADDRINUSE) {
		err = s.listenOverRemains(rc)
	} else if err == nil {
		err = s.reuse(true)
	}
	if err != nil {
		return nil, err
	}
	l, err := net.FileListener(s.f)
	if err != nil {
		if !before && !s.shared {
			err = errors.Join(err, s.unlisten(rc))
		}
		return nil, neterr.Bare(err)
	}
	_ = s.f.Close() // l has a descriptor of its own
	return l.(*net.TCPListener), nil
}

// Listens reports whether the socket takes clients, as one may that another process has made.
func (s *Socket) Listens() bool {
	rc, err := s.f.SyscallConn()
	if err != nil {
		return false
	}
	v := 0
	err = do(rc, "getsockopt", func(fd int) (err error) {
		v, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
		return err
	})
	return err == nil && v != 0
}

// unlisten makes a listening socket one that is only bound. Clients in its backlog are reset. A
// port that the kernel has chosen is lost when the listening ends, so it is bound again, by its
// number.
func (s *Socket) unlisten(rc syscall.RawConn) error {
	if err := s.reuse(false); err != nil { // first, so that nobody gets in
		return err
	}
	if err := do(rc, "shutdown", func(fd int) error { return unix.Shutdown(fd, unix.SHUT_RD) }); err != nil {
		return err
	}
	sa, err := s.sockaddr(s.local)
	if err != nil {
		return err
	}
	return do(rc, "bind", func(fd int) error {
		if err := unix.Bind(fd, sa); err != unix.EINVAL { // which says that it is bound
			return err
		}
		return nil
	})
}

func (s *Socket) set(rc syscall.RawConn, level, option, value int) error {
	return do(rc, "setsockopt", func(fd int) error { return unix.SetsockoptInt(fd, level, option, value) })
}

// do makes a system call on the descriptor of rc.
func do(rc syscall.RawConn, name string, call func(fd int) error) error {
	var err error
	if cerr := rc.Control(func(fd uintptr) { err = call(int(fd)) }); cerr != nil {
		return cerr
	}
	return os.NewSyscallError(name, err)
}

func (s *Socket) sockaddr(a *net.TCPAddr) (unix.Sockaddr, error) {
	if !s.v6 {
		sa := &unix.SockaddrInet4{Port: a.Port}
		if ip := a.IP.To4(); ip != nil {
			copy(sa.Addr[:], ip)
		} else if len(a.IP) != 0 && !a.IP.IsUnspecified() {
			return nil, &net.AddrError{Err: "non-IPv4 address", Addr: a.IP.String()}
		}
		return sa, nil
	}
	sa := &unix.SockaddrInet6{Port: a.Port}
	if len(a.IP) != 0 && !a.IP.IsUnspecified() {
		copy(sa.Addr[:], a.IP.To16())
	}
	sa.ZoneId = netaddr.ZoneIndex(a.Zone)
	return sa, nil
}

func tcpAddr(sa unix.Sockaddr) *net.TCPAddr {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return &net.TCPAddr{IP: sa.Addr[:], Port: sa.Port}
	case *unix.SockaddrInet6:
		a := &net.TCPAddr{IP: sa.Addr[:], Port: sa.Port}
		a.Zone = netaddr.InterfaceName(sa.ZoneId)
		return a
	}
	return &net.TCPAddr{}
}
