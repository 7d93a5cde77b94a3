package probe

import "golang.org/x/sys/unix"

// Socket opens a TCP socket to try things on, and returns the loopback address of its family, with
// port 0. It is an IPv6 socket where a sandbox has none of IPv4.
func Socket() (fd int, loopback unix.Sockaddr, err error) {
	const kind = unix.SOCK_STREAM | unix.SOCK_CLOEXEC
	if fd, err = unix.Socket(unix.AF_INET, kind, 0); err == nil {
		return fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}, nil
	}
	if fd, v6err := unix.Socket(unix.AF_INET6, kind, 0); v6err == nil {
		return fd, &unix.SockaddrInet6{Addr: [16]byte{15: 1}}, nil
	}
	return -1, nil, err
}
