//go:build unix

package rdmanet_test

import "golang.org/x/sys/unix"

func mapPages(n int) ([]byte, error) {
	return unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
}

// unmapPages leaves the addresses taken, so that nothing else comes to lie there. They are lost to
// the process.
func unmapPages(b []byte) error { return unix.Mprotect(b, unix.PROT_NONE) }
