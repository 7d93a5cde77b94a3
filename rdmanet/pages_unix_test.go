//go:build unix

package rdmanet_test

import "syscall"

func mapPages(n int) ([]byte, error) {
	return syscall.Mmap(-1, 0, n, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
}

// unmapPages leaves the addresses taken, so that nothing else comes to lie there. They are lost to the process.
func unmapPages(b []byte) error { return syscall.Mprotect(b, syscall.PROT_NONE) }
