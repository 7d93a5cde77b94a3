//go:build !linux

package bound

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"

	"github.com/rdmanet/iwarp/internal/neterr"
)

// A Socket holds a port by listening on it, which is what package net can do everywhere.
type Socket struct {
	l       *net.TCPListener
	at      Binding
	shared  bool
	adopted bool
}

func Bind(ctx context.Context, network string, addr *net.TCPAddr, control Control, _ Use) (*Socket, error) {
	lc := net.ListenConfig{Control: control}
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(ctx, network, addr.String())
	if err != nil {
		return &Socket{at: bindingOf(addr, network != "tcp4", network == "tcp6")}, neterr.Bare(err)
	}
	local := l.Addr().(*net.TCPAddr)
	return &Socket{l: l.(*net.TCPListener), at: bindingOf(local, local.IP.To4() == nil, network == "tcp6")}, nil
}

func (s *Socket) At() Binding { return s.at }

func (s *Socket) TCPAddr() *net.TCPAddr { return s.l.Addr().(*net.TCPAddr) }

func (s *Socket) Close() error { return s.l.Close() }

func (s *Socket) Listen(control Control) (*net.TCPListener, error) {
	if control != nil {
		rc, err := s.l.SyscallConn()
		if err != nil {
			return nil, err
		}
		network := "tcp6"
		if s.TCPAddr().IP.To4() != nil {
			network = "tcp4"
		}
		if err := control(network, s.TCPAddr().String(), rc); err != nil {
			return nil, err
		}
	}
	return s.l, nil
}

// Listens is true of a socket that listened when it came here.
func (s *Socket) Listens() bool { return s.adopted }

// DeviceOf knows of no sockets that are bound to an interface.
func DeviceOf(string, string, Control) (uint32, error) { return 0, nil }

func CurrentNetns() (uint64, error) { return 0, nil }

func OneFamily() bool { return false }

func (s *Socket) Connect(context.Context, *net.TCPAddr, Options) (*net.TCPConn, error) {
	return nil, errors.ErrUnsupported
}

func ShareAddress(syscall.RawConn) error { return errors.ErrUnsupported }

// Admit has no meaning where a port is held by listening on it; nor are there devices that would
// need it.
func (s *Socket) Admit(bool) error { return nil }

func (s *Socket) ListenedOn() (bool, error) { return false, nil }

func (s *Socket) File() (*os.File, error) {
	s.shared = true
	return s.l.File()
}

func ListenerFile(l *net.TCPListener) (*os.File, error) { return l.File() }

func Unblock(*net.TCPListener) error { return nil }

func Elsewhere(*net.TCPListener) (found, complete bool, err error) {
	return false, false, errors.ErrUnsupported
}

// Adopt makes a socket of a listener's file. Not every system can.
func Adopt(f *os.File) (*Socket, bool, error) {
	l, err := net.FileListener(f)
	if err != nil {
		return nil, false, neterr.Bare(err)
	}
	t, ok := l.(*net.TCPListener)
	if !ok {
		_ = l.Close()
		return nil, false, ErrNotTCP
	}
	local := t.Addr().(*net.TCPAddr)
	return &Socket{l: t, at: bindingOf(local, local.IP.To4() == nil, false), shared: true, adopted: true}, true, nil
}

// Mute is what only Linux can do: a port that is not listened on cannot be held.
func Mute(*net.TCPListener) (*Socket, error) { return nil, errors.ErrUnsupported }

func CopyOf(*net.TCPListener) (*Socket, error) { return nil, errors.ErrUnsupported }

// Descriptors are not adopted by their number.
func CloseOnExec(fds []int) error {
	if len(fds) > 0 {
		return errors.ErrUnsupported
	}
	return nil
}

func Adoptable(int) error { return errors.ErrUnsupported }

func AdoptFD(int, string) (*Socket, error) { return nil, errors.ErrUnsupported }
