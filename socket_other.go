//go:build !linux

package iwarp

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"

	"github.com/rdmanet/iwarp/internal/neterr"
)

// socket holds a port by listening on it, which is what package net can do everywhere.
type socket struct {
	l       *net.TCPListener
	at      binding
	shared  bool
	adopted bool
}

func bindSocket(ctx context.Context, network string, addr *net.TCPAddr, control control, _ bool) (*socket, error) {
	lc := net.ListenConfig{Control: control}
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(ctx, network, addr.String())
	if err != nil {
		return &socket{at: bindingOf(addr, network != "tcp4", network == "tcp6")}, neterr.Bare(err)
	}
	local := l.Addr().(*net.TCPAddr)
	return &socket{l: l.(*net.TCPListener), at: bindingOf(local, local.IP.To4() == nil, network == "tcp6")}, nil
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

// listens is true of a socket that listened when it came here.
func (s *socket) listens() bool { return s.adopted }

// deviceOf knows of no sockets that are bound to an interface.
func deviceOf(string, string, control) (uint32, error) { return 0, nil }

func currentNetns() (uint64, error) { return 0, nil }

func oneFamily() bool { return false }

func (s *socket) connect(context.Context, *net.TCPAddr, *Dialer) (*net.TCPConn, error) {
	return nil, errors.ErrUnsupported
}

func shareAddress(syscall.RawConn) error { return errors.ErrUnsupported }

// admit has no meaning where a port is held by listening on it, nor are there devices that would
// need it.
func (s *socket) admit(bool) error { return nil }

func (s *socket) listenedOn() (bool, error) { return false, nil }

func (s *socket) file() (*os.File, error) { return s.l.File() }

func listenerFile(l *net.TCPListener) (*os.File, error) { return l.File() }

func unblock(*net.TCPListener) error { return nil }

// adoptSocket makes a socket of a listener's file. Not every system can.
func adoptSocket(f *os.File) (*socket, bool, error) {
	l, err := net.FileListener(f)
	if err != nil {
		return nil, false, neterr.Bare(err)
	}
	t, ok := l.(*net.TCPListener)
	if !ok {
		_ = l.Close()
		return nil, false, errNotTCP
	}
	local := t.Addr().(*net.TCPAddr)
	return &socket{l: t, at: bindingOf(local, local.IP.To4() == nil, false), shared: true, adopted: true}, true, nil
}

// mute is what only Linux can do: a port that is not listened on cannot be held.
func mute(*net.TCPListener) (*socket, error) { return nil, errors.ErrUnsupported }

func heldOf(*net.TCPListener) (*socket, error) { return nil, errors.ErrUnsupported }

// Descriptors are not adopted by their number.
func closeOnExec(list []inherited) error {
	if len(list) > 0 {
		return errors.ErrUnsupported
	}
	return nil
}

func adoptable(int) error { return errors.ErrUnsupported }

func adoptFD(int, string) (*socket, error) { return nil, errors.ErrUnsupported }
