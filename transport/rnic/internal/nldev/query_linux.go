package nldev

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Links lists the ports of the RDMA devices that the calling thread's network namespace sees, by
// device and port. A kernel without RDMA has none, which is no failure. The question has the kernel
// load ib_uverbs if that is a module, as opening a device would.
func Links() ([]Link, error) {
	s, err := open()
	if err != nil {
		return nil, ignore(err, unix.EPROTONOSUPPORT) // no module makes a NETLINK_RDMA
	}
	defer s.close()
	var devices, links []Link
	err = s.ask(commandGet, flagDump, func(b []byte) error {
		var l Link
		err := parseLink(b, &l)
		l.Port = 0
		devices = append(devices, l)
		return err
	})
	if err != nil {
		// ECONNREFUSED: the kernel does not listen in this network namespace. EINVAL: nldev is not
		// there, and neither is any device (rdma_nl_rcv_msg). EOPNOTSUPP: a kernel that can do
		// without.
		return nil, ignore(err, unix.ECONNREFUSED, unix.EINVAL, unix.EOPNOTSUPP)
	}
	for _, d := range devices {
		index := uint32Attribute(attributeDeviceIndex, d.Index)
		err := s.ask(commandGetChardev, flagAck, func(b []byte) error { return parseLink(b, &d) },
			index, attribute{attributeChardevType, []byte("uverbs\x00")})
		if err != nil && !errors.As(err, new(refusal)) { // with a refusal the driver stays unknown
			return nil, err
		}
		err = s.ask(commandPortGet, flagDump, func(b []byte) error {
			l := d
			err := parseLink(b, &l)
			links = append(links, l)
			return err
		}, index)
		if ignore(err, unix.EINVAL) != nil { // by which the kernel says that the device is gone
			return nil, err
		}
	}
	return links, nil
}

// Resources counts the objects of a device. No such device is ENODEV.
func Resources(device string) (Counts, error) {
	var counts Counts
	found := false
	s, err := open()
	if err == nil {
		defer s.close()
		err = s.ask(commandResGet, flagDump, func(b []byte) error {
			name, c, err := parseCounts(b)
			if name == device {
				counts, found = c, true
			}
			return err
		})
	}
	err = ignore(err, unix.EPROTONOSUPPORT, unix.ECONNREFUSED, unix.EINVAL, unix.EOPNOTSUPP)
	if err == nil && !found {
		err = fmt.Errorf("RDMA device %q: %w", device, unix.ENODEV)
	}
	return counts, err
}

// ignore returns err, or nil if it is one of the errnos.
func ignore(err error, errnos ...unix.Errno) error {
	for _, e := range errnos {
		if errors.Is(err, e) {
			return nil
		}
	}
	return err
}

// patience is how long the kernel may take for one datagram of an answer.
var patience = unix.Timeval{Sec: 2}

const (
	datagramSize = 1 << 16 // more than netlink_dump ever fills
	datagramsMax = 1 << 12 // of an answer: thousands of devices
)

// A socket is a netlink socket to the kernel's RDMA. It has one question under way at a time.
type socket struct {
	fd     int
	seq    uint32
	buffer []byte
}

func open() (*socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_RDMA)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &patience); err != nil {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("setsockopt", err)
	}
	return &socket{fd: fd, buffer: make([]byte, datagramSize)}, nil
}

func (s *socket) close() { _ = unix.Close(s.fd) }

// ask sends a command and calls each with the attributes of every message of the answer.
func (s *socket) ask(c command, flags uint16, each func(attributes []byte) error, attributes ...attribute) error {
	if err := s.send(c, flags, attributes...); err != nil {
		return err
	}
	for range datagramsMax {
		b, err := s.receive()
		if err != nil {
			return err
		}
		if done, err := parse(b, c, s.seq, each); done || err != nil {
			return err
		}
	}
	return errMalformed
}

func (s *socket) send(c command, flags uint16, attributes ...attribute) error {
	s.seq++
	request := appendRequest(nil, c, flags, s.seq, attributes...)
	return os.NewSyscallError("sendto", unix.Sendto(s.fd, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}))
}

// receive returns the next datagram from the kernel. It is good until the next one.
func (s *socket) receive() ([]byte, error) {
	for {
		n, from, err := unix.Recvfrom(s.fd, s.buffer, unix.MSG_TRUNC)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return nil, os.NewSyscallError("recvfrom", err)
		case n > len(s.buffer):
			return nil, errMalformed
		default:
			// Other processes may send to netlink sockets, too; port 0 is the kernel.
			if sa, ok := from.(*unix.SockaddrNetlink); ok && sa.Pid == 0 {
				return s.buffer[:n], nil
			}
		}
	}
}
