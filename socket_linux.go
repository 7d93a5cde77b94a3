package iwarp

import (
	"context"
	"errors"
	"net"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxBacklog is cut to net.core.somaxconn by the kernel, which is what package net asks for.
const maxBacklog = 1<<16 - 1

// socket is a bound TCP socket that neither listens nor is connected.
type socket struct {
	f     *os.File
	v6    bool
	only6 bool
	local *net.TCPAddr
}

// bindTries bounds the search for a port that can be bound by number.
const bindTries = 16

// bindSocket binds so that nobody else gets in, and remains of earlier connections are not in the way.
//
// A socket keeps its port when a connect fails only if it was bound to the port by its number. So for
// port 0 a first socket finds the port, and a second one is bound to it.
func bindSocket(ctx context.Context, network string, addr *net.TCPAddr, control control) (*socket, error) {
	s := &socket{v6: network == "tcp6" || network == "tcp" && addr.IP.To4() == nil, only6: network == "tcp6"}
	dual := network == "tcp" && isWildcard(addr.IP)
	if dual {
		s.v6 = true
	}
	err := s.claim(ctx, addr, control)
	if dual && (errors.Is(err, syscall.EAFNOSUPPORT) || errors.Is(err, syscall.EADDRNOTAVAIL)) {
		s.v6 = false
		err = s.claim(ctx, addr, control)
	}
	for try := 1; err == nil && addr.Port == 0; try++ {
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
	if err != nil {
		return nil, err
	}
	return s, nil
}

// claim binds without SO_REUSEADDR, which no two sockets can do. Where connections in TIME_WAIT or of an earlier listener forbid that, it
// binds with the option, and clears it at once. Then two could get in at the same time: so
// those that do it this way take turns, and look afterwards whether somebody else has got in.
func (s *socket) claim(ctx context.Context, addr *net.TCPAddr, control control) error {
	err := s.open(addr, control, false)
	if !errors.Is(err, syscall.EADDRINUSE) || addr.Port == 0 {
		return err
	}
	err = func() error {
		defer turn(ctx, addr.Port)()
		if err := s.open(addr, control, true); err != nil {
			return err
		}
		if err := s.reuse(false); err != nil {
			_ = s.Close()
			return err
		}
		s.makeKnown()
		return nil
	}()
	if err == nil && s.rivaled() {
		_ = s.Close()
		err = os.NewSyscallError("bind", syscall.EADDRINUSE)
	}
	return err
}

// reuse sets or clears SO_REUSEADDR.
func (s *socket) reuse(on bool) error {
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

// shareAddress lets a socket that is to be bound have the port of one that admits it.
func shareAddress(rc syscall.RawConn) error {
	return do(rc, "setsockopt", func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
}

// admit lets another socket with SO_REUSEADDR bind to the port too, or ends that.
func (s *socket) admit(on bool) error {
	err := s.reuse(on)
	if !on {
		s.makeKnown()
	}
	return err
}

func (s *socket) open(addr *net.TCPAddr, control control, reuse bool) error {
	family := unix.AF_INET
	if s.v6 {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	s.f = os.NewFile(uintptr(fd), "tcp:"+addr.String())
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

func (s *socket) bind(addr *net.TCPAddr, control control, reuse bool) error {
	sa, err := s.sockaddr(addr)
	if err != nil {
		return err
	}
	rc, err := s.f.SyscallConn()
	if err != nil {
		return err
	}
	if s.v6 {
		only := 0
		if s.only6 {
			only = 1
		}
		if err := s.set(rc, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only); err != nil {
			return err
		}
	}
	if err := s.reuse(reuse); err != nil {
		return err
	}
	if control != nil {
		if err := control(s.network(), addr.String(), rc); err != nil {
			return err
		}
	}
	if err := do(rc, "bind", func(fd int) error { return unix.Bind(fd, sa) }); err != nil {
		return err
	}
	return do(rc, "getsockname", func(fd int) error {
		sa, err := unix.Getsockname(fd)
		if err == nil {
			s.local = tcpAddr(sa)
		}
		return err
	})
}

// network is the name that package net gives Control functions.
func (s *socket) network() string {
	if s.v6 {
		return "tcp6"
	}
	return "tcp4"
}

func (s *socket) addr() *net.TCPAddr { return s.local }

func (s *socket) Close() error { return s.f.Close() }

func (s *socket) listen(control control) (*net.TCPListener, error) {
	rc, err := s.f.SyscallConn()
	if err != nil {
		return nil, err
	}
	if control != nil {
		if err := control(s.network(), s.local.String(), rc); err != nil {
			return nil, err
		}
	}
	listen := func(fd int) error { return unix.Listen(fd, maxBacklog) }
	err = do(rc, "listen", listen)
	if errors.Is(err, syscall.EADDRINUSE) {
		// Connections in TIME_WAIT let only a socket listen that has the option already. A thief may
		// come in between, but then only one of the two can listen.
		err = func() error {
			defer turn(context.Background(), s.local.Port)()
			if err := s.reuse(true); err != nil {
				return err
			}
			return do(rc, "listen", listen)
		}()
	} else if err == nil {
		err = s.reuse(true)
	}
	if err != nil {
		_ = s.reuse(false)
		return nil, err
	}
	l, err := net.FileListener(s.f)
	if err != nil {
		return nil, err
	}
	_ = s.f.Close() // l has a descriptor of its own
	return l.(*net.TCPListener), nil
}

func (s *socket) set(rc syscall.RawConn, level, option, value int) error {
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

func (s *socket) sockaddr(a *net.TCPAddr) (unix.Sockaddr, error) {
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
	if a.Zone != "" {
		if ifi, err := net.InterfaceByName(a.Zone); err == nil {
			sa.ZoneId = uint32(ifi.Index)
		} else if n, err := strconv.ParseUint(a.Zone, 10, 32); err == nil {
			sa.ZoneId = uint32(n)
		}
	}
	return sa, nil
}

func tcpAddr(sa unix.Sockaddr) *net.TCPAddr {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return &net.TCPAddr{IP: sa.Addr[:], Port: sa.Port}
	case *unix.SockaddrInet6:
		a := &net.TCPAddr{IP: sa.Addr[:], Port: sa.Port}
		if sa.ZoneId != 0 {
			a.Zone = strconv.FormatUint(uint64(sa.ZoneId), 10)
			if ifi, err := net.InterfaceByIndex(int(sa.ZoneId)); err == nil {
				a.Zone = ifi.Name
			}
		}
		return a
	}
	return &net.TCPAddr{}
}
