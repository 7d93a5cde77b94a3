package soft

import (
	"bytes"
	"os"

	"golang.org/x/sys/unix"
)

func readBootID() ([]byte, bool) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	b = bytes.TrimSpace(b)
	return b, err == nil && len(b) > 0
}

// namespace returns the cookie of the network namespace of the socket, which Linux has from 5.14
// on.
func (s *sock) namespace() (cookie uint64, ok bool) {
	err := s.rc.Control(func(fd uintptr) {
		var bad error
		cookie, bad = unix.GetsockoptUint64(int(fd), unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
		ok = bad == nil && cookie != 0
	})
	return cookie, ok && err == nil
}
