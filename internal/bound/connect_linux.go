package bound

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp/internal/keepalive"
	"github.com/rdmanet/iwarp/internal/neterr"
)

// Connect connects the socket, and gives up the attempt when ctx ends. After an error the socket is
// bound as before.
func (s *Socket) Connect(ctx context.Context, remote *net.TCPAddr, o Options) (*net.TCPConn, error) {
	if err := ctx.Err(); err != nil {
		return nil, neterr.OfContext(err)
	}
	if s.Listens() {
		return nil, os.NewSyscallError("connect", syscall.EINVAL)
	}
	sa, err := s.sockaddr(remote)
	if err != nil {
		return nil, err
	}
	rc, err := s.f.SyscallConn()
	if err != nil {
		return nil, err
	}
	if err := o.Control(ctx, s.network(), remote.String(), rc); err != nil {
		return nil, err
	}
	err = do(rc, "connect", func(fd int) error { return unix.Connect(fd, sa) })
	if errors.Is(err, unix.EINPROGRESS) || errors.Is(err, unix.EINTR) {
		err = s.wait(ctx, rc)
	}
	var c net.Conn
	var had net.KeepAliveConfig
	if err == nil {
		had, err = keepalive.Of(rc)
	}
	if err == nil {
		c, err = net.FileConn(s.f)
	}
	if err != nil {
		_ = do(rc, "connect", disconnect) // or else the next attempt would fail with ECONNABORTED
		return nil, err
	}
	_ = s.f.Close()
	keepalive.SetDialed(c.(*net.TCPConn), had, o.KeepAlive, o.KeepAliveConfig)
	return c.(*net.TCPConn), nil
}

// wait waits for the end of a connect under way.
func (s *Socket) wait(ctx context.Context, rc syscall.RawConn) error {
	stop := context.AfterFunc(ctx, func() { _ = s.f.SetWriteDeadline(time.Unix(1, 0)) })
	var failure error
	err := rc.Write(func(fd uintptr) bool {
		code, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		switch errno := syscall.Errno(code); {
		case err != nil:
			failure = os.NewSyscallError("getsockopt", err)
		case errno == unix.EINPROGRESS || errno == unix.EALREADY || errno == unix.EINTR:
			return false
		case errno != 0 && errno != unix.EISCONN:
			failure = os.NewSyscallError("connect", errno)
		default:
			// The poller may wake us early: the peer's address is the proof.
			_, err := unix.Getpeername(int(fd))
			return err == nil
		}
		return true
	})
	if !stop() {
		_ = s.f.SetWriteDeadline(time.Time{})
		return neterr.OfContext(ctx.Err())
	}
	if err != nil {
		return err
	}
	return failure
}

// disconnect ends a connection or an attempt at one; a socket that was bound explicitly stays bound
// (connect(2)).
func disconnect(fd int) error {
	sa := unix.RawSockaddr{Family: unix.AF_UNSPEC}
	if _, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&sa)), unsafe.Sizeof(sa)); errno != 0 {
		return errno
	}
	return nil
}
