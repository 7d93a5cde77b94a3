package nldev

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp/internal/netlink"
)

// Links lists the ports of the RDMA devices that the calling thread's network namespace sees, by
// device and port. A kernel without RDMA has none, which is no failure. The question has the kernel
// load ib_uverbs if that is a module, as opening a device would. It has some drivers ask the
// Ethernet interface for its speed, which the kernel logs if that is not known.
func Links() ([]Link, error) {
	s, err := open()
	if err != nil {
		return nil, ignore(err, unix.EPROTONOSUPPORT) // no module makes a NETLINK_RDMA
	}
	defer s.Close()
	devices, err := devices(s)
	if err != nil {
		return nil, err
	}
	var links []Link
	for _, d := range devices {
		err = ask(s, commandPortGet, netlink.Dump, func(b []byte) error {
			l := d
			err := parseLink(b, &l)
			links = append(links, l)
			return err
		}, netlink.Uint32(attributeDeviceIndex, d.Index))
		if ignore(err, unix.EINVAL) != nil { // by which the kernel says that the device is gone
			return nil, err
		}
	}
	return links, nil
}

// Devices is Links for the devices themselves: without their ports, and what those are connected
// to. It may be called often.
func Devices() ([]Link, error) {
	s, err := open()
	if err != nil {
		return nil, ignore(err, unix.EPROTONOSUPPORT)
	}
	defer s.Close()
	return devices(s)
}

func devices(s *netlink.Socket) ([]Link, error) {
	var list []Link
	err := ask(s, commandGet, netlink.Dump, func(b []byte) error {
		var l Link
		err := parseLink(b, &l)
		l.Port = 0
		list = append(list, l)
		return err
	})
	if err != nil {
		// ECONNREFUSED: the kernel does not listen in this network namespace. EINVAL: nldev is not
		// there, and neither is any device (rdma_nl_rcv_msg). EOPNOTSUPP: a kernel that can do
		// without.
		return nil, ignore(err, unix.ECONNREFUSED, unix.EINVAL, unix.EOPNOTSUPP)
	}
	for i := range list {
		d := &list[i]
		err := ask(s, commandGetChardev, netlink.Ack, func(b []byte) error { return parseLink(b, d) },
			netlink.Uint32(attributeDeviceIndex, d.Index), netlink.Attribute{Kind: attributeChardevType, Value: []byte("uverbs\x00")})
		if err != nil && !errors.As(err, new(netlink.Refusal)) { // with a refusal the driver stays unknown
			return nil, err
		}
	}
	return list, nil
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

// CMIDs lists the ids of the connection manager on a device, which is named by Link.Index. There
// are none on a device that is gone, and ErrTooMany comes with as many as are listed. Neither they
// nor queue pairs take a privilege to see, but only those are there whose process is in the PID
// namespace of the caller, and the kernel's own in the first one of the host. An id that comes or
// goes while the kernel lists many may have it skip another.
func CMIDs(device uint32) ([]CMID, error) {
	return objects(device, commandCMIDGet, attributeCMID, attributeCMIDEntry, parseCMID)
}

// QueuePairs is CMIDs for queue pairs.
func QueuePairs(device uint32) ([]QP, error) {
	return objects(device, commandQPGet, attributeQP, attributeQPEntry, parseQP)
}

// objects lists what parse makes of the entries of a table.
func objects[T any](device uint32, command, table, entry uint16, parse func([]byte) (T, error)) (list []T, err error) {
	s, err := open()
	if err != nil {
		return nil, ignore(err, unix.EPROTONOSUPPORT)
	}
	defer s.Close()
	each := func(b []byte) error {
		if len(list) >= most {
			return ErrTooMany
		}
		o, err := parse(b)
		list = append(list, o)
		return err
	}
	err = ask(s, command, netlink.Dump, func(b []byte) error { return parseEntries(b, table, entry, each) },
		netlink.Uint32(attributeDeviceIndex, device))
	return list, ignore(err, unix.EINVAL, unix.ECONNREFUSED, unix.EOPNOTSUPP)
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
