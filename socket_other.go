//go:build !linux

package iwarp

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
)

// socket holds a port by listening on it, which is what package net can do everywhere.
type socket struct {
	l *net.TCPListener
}

func bindSocket(ctx context.Context, network string, addr *net.TCPAddr, control control) (*socket, error) {
	lc := net.ListenConfig{Control: control}
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(ctx, network, addr.String())
	if err != nil {
		return nil, bare(err)
	}
	return &socket{l.(*net.TCPListener)}, nil
}

func (s *socket) addr() *net.TCPAddr { return s.l.Addr().(*net.TCPAddr) }

func (s *socket) Close() error { return s.l.Close() }

func (s *socket) listen(control control) (*net.TCPListener, error) {
	if control != nil {
		rc, err := s.l.SyscallConn()
		if err != nil {
			return nil, err
		}
		network := "tcp6"
		if s.addr().IP.To4() != nil {
			network = "tcp4"
		}
		if err := control(network, s.addr().String(), rc); err != nil {
			return nil, err
		}
	}
	return s.l, nil
}

func (s *socket) reaches(netip.Addr) bool { return true }

func (s *socket) connect(context.Context, *net.TCPAddr, *Dialer) (*net.TCPConn, error) {
	return nil, errors.ErrUnsupported
}

func shareAddress(syscall.RawConn) error { return errors.ErrUnsupported }

// admit has no meaning where a port is held by listening on it, nor are there devices that would need it.
func (s *socket) admit(bool) error { return nil }

func (s *socket) listenedOn() bool { return false }

func (s *socket) file() (*os.File, error) { return s.l.File() }

// adoptSocket makes a socket of a listener's file. Not every system can.
func adoptSocket(f *os.File) (*socket, bool, error) {
	l, err := net.FileListener(f)
	if err != nil {
		return nil, false, bare(err)
	}
	t, ok := l.(*net.TCPListener)
	if !ok {
		_ = l.Close()
		return nil, false, errNotTCP
	}
	return &socket{t}, true, nil
}

// mute is what only Linux can do: a port that is not listened on cannot be held.
func mute(*net.TCPListener) (*socket, error) { return nil, errors.ErrUnsupported }
