package sockdiag

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A Watcher is told when addresses of the host come and go.
type Watcher struct{ f *os.File }

// Watch starts a Watcher for the calling thread's network namespace.
func Watch() (*Watcher, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	groups := uint32(unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("bind", err)
	}
	return &Watcher{os.NewFile(uintptr(fd), "rtnetlink")}, nil
}

// Wait returns after a change, or after the time, or with os.ErrClosed after Close. The caller has
// to look up what the change was: messages may have been lost.
func (w *Watcher) Wait(limit time.Duration) error {
	if err := w.f.SetReadDeadline(time.Now().Add(limit)); err != nil {
		return os.ErrClosed // which is the only reason, but package os calls it something else
	}
	_, err := w.f.Read(make([]byte, 1<<13))
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, unix.ENOBUFS) {
		return nil
	}
	return err
}

// Close ends a Wait under way.
func (w *Watcher) Close() error { return w.f.Close() }
