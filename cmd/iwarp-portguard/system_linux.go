package main

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// bindTo binds a socket to an interface, which takes no privilege since Linux 5.7.
func bindTo(c syscall.RawConn, device string) error {
	var err error
	if cerr := c.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), device) }); cerr != nil {
		return cerr
	}
	return os.NewSyscallError("setsockopt", err)
}
