package netlink

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// patience is how long the kernel may take for one datagram of an answer.
var patience = unix.Timeval{Sec: 2}

const (
	datagramSize = 1 << 16 // more than netlink_dump ever fills
	datagramsMax = 1 << 16 // of an answer: millions of sockets
)

// A Socket is a netlink socket, which has one request under way at a time. It is for one goroutine.
type Socket struct {
	fd     int
	seq    uint32
	buffer []byte
}

// Open opens a socket of a protocol, unix.NETLINK_..., in the network namespace of the calling
// thread.
func Open(protocol int) (*Socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &patience); err != nil {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("setsockopt", err)
	}
	return &Socket{fd: fd, buffer: make([]byte, datagramSize)}, nil
}

// Close closes the socket.
func (s *Socket) Close() { _ = unix.Close(s.fd) }

// Ask sends a request and calls each with the body of every message of the kind that answers it.
func (s *Socket) Ask(kind, flags uint16, body []byte, each func(body []byte) error) error {
	return s.ask(kind, flags, body, func(b []byte) (bool, error) { return Parse(b, kind, s.seq, each) })
}

// Record returns the datagrams that answer a request, for tests.
func (s *Socket) Record(kind, flags uint16, body []byte) (all []byte, err error) {
	err = s.ask(kind, flags, body, func(b []byte) (bool, error) {
		all = append(all, b...)
		return Parse(b, kind, s.seq, func([]byte) error { return nil })
	})
	return all, err
}

func (s *Socket) ask(kind, flags uint16, body []byte, read func(datagram []byte) (done bool, err error)) error {
	s.seq++
	request := AppendRequest(nil, kind, flags, s.seq, body)
	if err := unix.Sendto(s.fd, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return os.NewSyscallError("sendto", err)
	}
	for range datagramsMax {
		b, err := s.receive()
		if err != nil {
			return err
		}
		if done, err := read(b); done || err != nil {
			return err
		}
	}
	return ErrMalformed
}

// receive returns the next datagram from the kernel. It is valid until the next one.
func (s *Socket) receive() ([]byte, error) {
	for {
		n, from, err := unix.Recvfrom(s.fd, s.buffer, unix.MSG_TRUNC)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return nil, os.NewSyscallError("recvfrom", err)
		case n > len(s.buffer):
			return nil, ErrMalformed
		default:
			// Other processes may send to netlink sockets, too; port 0 is the kernel.
			if sa, ok := from.(*unix.SockaddrNetlink); ok && sa.Pid == 0 {
				return s.buffer[:n], nil
			}
		}
	}
}
