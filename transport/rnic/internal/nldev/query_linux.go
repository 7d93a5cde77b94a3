package nldev

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp/internal/netlink"
)

// Links lists the ports of the RDMA devices that the calling thread's network namespace sees, by
// device and port. A kernel without RDMA has none, which is no failure. The question has the kernel
// load ib_uverbs if that is a module, as opening a device would.
func Links() ([]Link, error) {
	s, err := open()
	if err != nil {
		return nil, ignore(err, unix.EPROTONOSUPPORT) // no module makes a NETLINK_RDMA
	}
	defer s.Close()
	var devices, links []Link
	err = ask(s, commandGet, netlink.Dump, func(b []byte) error {
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
		index := netlink.Uint32(attributeDeviceIndex, d.Index)
		err := ask(s, commandGetChardev, netlink.Ack, func(b []byte) error { return parseLink(b, &d) },
			index, netlink.Attribute{Kind: attributeChardevType, Value: []byte("uverbs\x00")})
		if err != nil && !errors.As(err, new(netlink.Refusal)) { // with a refusal the driver stays unknown
			return nil, err
		}
		err = ask(s, commandPortGet, netlink.Dump, func(b []byte) error {
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
		defer s.Close()
		err = ask(s, commandResGet, netlink.Dump, func(b []byte) error {
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

func open() (*netlink.Socket, error) { return netlink.Open(unix.NETLINK_RDMA) }

// ask sends a command and calls each with the attributes of every message of the answer.
func ask(s *netlink.Socket, command, flags uint16, each func(attributes []byte) error, attributes ...netlink.Attribute) error {
	err := s.Ask(command, flags, netlink.AppendAttributes(nil, attributes...), each)
	if errors.As(err, new(netlink.Refusal)) {
		return fmt.Errorf("RDMA netlink: %w", err)
	}
	return err
}
