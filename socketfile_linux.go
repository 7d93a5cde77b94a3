package iwarp

import (
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// file returns a copy of the socket's descriptor.
func (s *socket) file() (*os.File, error) { return dup(s.f) }

func dup(f *os.File) (*os.File, error) {
	rc, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	var fd int
	err = do(rc, "fcntl", func(old int) (err error) {
		fd, err = unix.FcntlInt(uintptr(old), unix.F_DUPFD_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// adoptSocket makes a socket of a copy of f, and reports whether it listens already.
func adoptSocket(f *os.File) (_ *socket, listening bool, err error) {
	s := &socket{}
	copied, err := dup(f)
	if err != nil {
		return nil, false, err
	}
	rc, err := copied.SyscallConn()
	if err == nil {
		if cerr := rc.Control(func(fd uintptr) { listening, err = s.adopt(int(fd)) }); cerr != nil {
			err = cerr
		}
	}
	// Only a descriptor that does not block waits with Go's poller, so it has to be set before the os.File is made.
	if err == nil {
		s.f, err = dup(copied)
	}
	_ = copied.Close()
	if err == nil && !listening {
		if err = s.reuse(false); err != nil {
			_ = s.f.Close()
		}
	}
	if err != nil {
		return nil, false, err
	}
	return s, listening, nil
}

// adopt finds out what kind of a socket fd is.
func (s *socket) adopt(fd int) (listening bool, err error) {
	switch v, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL); {
	case err != nil:
		return false, os.NewSyscallError("getsockopt", err)
	case v != unix.IPPROTO_TCP && v != unix.IPPROTO_MPTCP: // as package net makes them
		return false, errNotTCP
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return false, os.NewSyscallError("getsockname", err)
	}
	if s.local = tcpAddr(sa); s.local.Port == 0 {
		return false, errNotBound
	}
	if _, err := unix.Getpeername(fd); err == nil {
		return false, errConnected
	}
	if _, s.v6 = sa.(*unix.SockaddrInet6); s.v6 {
		only, err := unix.GetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY)
		if err != nil {
			return false, os.NewSyscallError("getsockopt", err)
		}
		s.only6 = only != 0
	}
	v, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err != nil {
		return false, os.NewSyscallError("getsockopt", err)
	}
	return v != 0, unix.SetNonblock(fd, true)
}

// mute makes l's socket one that is bound and does not listen. Clients in its backlog are reset, as by Close, which is still to be called.
func mute(l *net.TCPListener) (_ *socket, err error) {
	f, err := l.File()
	if err != nil {
		return nil, err
	}
	s := &socket{f: f}
	defer func() {
		if err != nil {
			_ = f.Close()
		}
	}()
	rc, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	if cerr := rc.Control(func(fd uintptr) { _, err = s.adopt(int(fd)) }); cerr != nil {
		err = cerr
	}
	if err == nil {
		err = s.reuse(false) // first, so that nobody gets in
	}
	if err == nil {
		err = do(rc, "shutdown", func(fd int) error { return unix.Shutdown(fd, unix.SHUT_RD) })
	}
	return s, err
}
