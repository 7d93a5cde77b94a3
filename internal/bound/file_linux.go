package bound

import (
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp/internal/sockdiag"
)

// File returns a copy of the socket's descriptor.
func (s *Socket) File() (*os.File, error) {
	f, err := copyFile(s.f, s.f.Name())
	if err == nil {
		s.shared = true
	}
	return f, err
}

// ListenerFile returns a copy of the listener's descriptor. Unlike what its File method returns,
// the copy stays non-blocking: that is a trait of the socket, which the copy shares, and without it
// a Close waits for the Accept under way.
func ListenerFile(l *net.TCPListener) (*os.File, error) {
	return copyFile(l, "tcp:"+l.Addr().String()+"->")
}

// copyFile returns a copy of the descriptor of c.
func copyFile(c syscall.Conn, name string) (*os.File, error) {
	fd, err := dup(c)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

func dup(c syscall.Conn) (fd int, err error) {
	rc, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	err = do(rc, "fcntl", func(old int) (err error) {
		fd, err = unix.FcntlInt(uintptr(old), unix.F_DUPFD_CLOEXEC, 0)
		return err
	})
	return fd, err
}

// Adopt makes a socket of a copy of f, and reports whether it already listens.
func Adopt(f *os.File) (_ *Socket, listening bool, err error) {
	fd, err := dup(f)
	if err != nil {
		return nil, false, err
	}
	if err := Adoptable(fd); err != nil {
		_ = unix.Close(fd)
		return nil, false, err
	}
	s, err := AdoptFD(fd, f.Name())
	if err != nil {
		return nil, false, err
	}
	return s, s.Listens(), nil
}

// Adoptable returns an error if fd is not a TCP socket that has a port and no peer. It alters
// nothing.
func Adoptable(fd int) error {
	switch v, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL); {
	case err != nil:
		return os.NewSyscallError("getsockopt", err)
	case v != unix.IPPROTO_TCP && v != unix.IPPROTO_MPTCP: // as package net makes them
		return ErrNotTCP
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		err = errIf(sa.Port == 0, ErrNotBound)
	case *unix.SockaddrInet6:
		err = errIf(sa.Port == 0, ErrNotBound)
	default:
		err = ErrNotTCP
	}
	if err != nil {
		return err
	}
	_, err = unix.Getpeername(fd)
	return errIf(err == nil, ErrConnected)
}

func errIf(cond bool, err error) error {
	if cond {
		return err
	}
	return nil
}

// AdoptFD makes a socket of fd itself, which is adoptable, and closes it after an error.
func AdoptFD(fd int, name string) (s *Socket, err error) {
	s = &Socket{shared: true}
	// Only a non-blocking descriptor waits with Go's poller, so this must be set before the os.File is
	// made.
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	s.f = os.NewFile(uintptr(fd), name)
	defer func() {
		if err != nil {
			_ = s.f.Close()
		}
	}()
	rc, err := s.f.SyscallConn()
	if err != nil {
		return nil, err
	}
	if err := do(rc, "getsockopt", s.examine); err != nil {
		return nil, err
	}
	s.locate(rc, s.local)
	if !s.Listens() {
		err = s.reuse(false)
	}
	return s, err
}

// CloseOnExec keeps the descriptors from programs that the process starts.
func CloseOnExec(fds []int) error {
	for _, fd := range fds {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC); err != nil {
			return fmt.Errorf("descriptor %d of LISTEN_FDS: %w", fd, os.NewSyscallError("fcntl", err))
		}
	}
	return nil
}

// examine finds out what a socket from elsewhere is bound to.
func (s *Socket) examine(fd int) error {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return err
	}
	s.local = tcpAddr(sa)
	if _, s.v6 = sa.(*unix.SockaddrInet6); s.v6 {
		only, err := unix.GetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY)
		if err != nil {
			return err
		}
		s.only6 = only != 0
	}
	return nil
}

// CopyOf makes a socket of a copy of l's, which goes on listening. It is for one that other
// processes may have as well.
func CopyOf(l *net.TCPListener) (*Socket, error) {
	fd, err := dup(l)
	if err != nil {
		return nil, err
	}
	return AdoptFD(fd, l.Addr().String())
}

// Mute makes l's socket one that is bound and does not listen. Clients in its backlog are reset, as
// by Close, which must still be called. It must not be used for a socket that other processes may
// have as well.
func Mute(l *net.TCPListener) (*Socket, error) {
	s, err := CopyOf(l)
	if err != nil {
		return nil, err
	}
	s.shared = false
	rc, err := s.f.SyscallConn()
	if err == nil {
		err = s.unlisten(rc)
	}
	if err != nil {
		_ = s.f.Close()
		return nil, err
	}
	return s, nil
}

// Elsewhere reports whether anybody has l's socket beside l itself. complete says whether all that
// could have it were seen.
func Elsewhere(l *net.TCPListener) (found, complete bool, err error) {
	rc, err := l.SyscallConn()
	if err != nil {
		return false, false, err
	}
	var st unix.Stat_t
	if err := do(rc, "fstat", func(fd int) error { return unix.Fstat(fd, &st) }); err != nil {
		return false, false, err
	}
	return sockdiag.Elsewhere(uint32(st.Ino))
}

// Unblock makes calls on the descriptor of l, which somebody who shares it may have made blocking,
// wait with Go's poller again. A call that is already blocked stays so.
func Unblock(l *net.TCPListener) error {
	rc, err := l.SyscallConn()
	if err != nil {
		return err
	}
	return do(rc, "fcntl", func(fd int) error { return unix.SetNonblock(fd, true) })
}
