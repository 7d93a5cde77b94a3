//go:build unix

package rdmanet_test

import "syscall"

func getsockopt(fd uintptr, level, name int) (int, error) {
	return syscall.GetsockoptInt(int(fd), level, name)
}
