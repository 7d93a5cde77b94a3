//go:build !linux

package iwarp

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
)

// socket holds a port by listening on it, which is what package net can do everywhere.
type socket struct {
	l *net.TCPListener
}

func bindSocket(ctx context.Context, network string, addr *net.TCPAddr, control func(string, string, syscall.RawConn) error) (*socket, error) {
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

func (s *socket) listen(control func(string, string, syscall.RawConn) error) (*net.TCPListener, error) {
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
