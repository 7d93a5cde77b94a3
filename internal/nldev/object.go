package nldev

import "github.com/rdmanet/iwarp/internal/netlink"

// parseLink reads the attributes of an answer about a device (GET, GET_CHARDEV) or a port
// (PORT_GET) into l and leaves alone what they do not say. For a device the port is the number of
// its ports.
func parseLink(b []byte, l *Link) error {
	return netlink.ParseAttributes(b, func(a netlink.Attribute) (err error) {
		switch a.Kind {
		case attributeDeviceIndex:
			err = set(a, &l.Index)
		case attributeDeviceName:
			l.Device = a.Text()
		case attributePortIndex:
			err = set(a, &l.Port)
		case attributePortState:
			err = set(a, &l.State)
		case attributeNodeType:
			err = set(a, &l.Node)
		case attributeNetDevIndex:
			err = set(a, &l.NetDevIndex)
		case attributeNetDevName:
			l.NetDev = a.Text()
		case attributeProtocol:
			l.Protocol = a.Text()
		case attributeChardevName:
			l.Chardev = a.Text()
		case attributeDriver:
			err = set(a, &l.Driver)
		}
		return err
	})
}

// set stores the number of an attribute, which must fit. Its size is not fixed: UVERBS_DRIVER_ID is
// u64 in the header file and u32 on the wire.
func set[T ~uint8 | ~uint32](a netlink.Attribute, v *T) error {
	n, err := a.Number()
	if err != nil || uint64(T(n)) != n {
		return netlink.ErrMalformed
	}
	*v = T(n)
	return nil
}

// parseCounts reads the name of a device and what exists of it from an answer to RES_GET.
func parseCounts(b []byte) (device string, c Counts, err error) {
	err = netlink.ParseAttributes(b, func(a netlink.Attribute) error {
		switch a.Kind {
		case attributeDeviceName:
			device = a.Text()
		case attributeSummary:
			return netlink.ParseAttributes(a.Value, func(a netlink.Attribute) error {
				if a.Kind != attributeSummaryEntry {
					return nil
				}
				return parseEntry(a.Value, &c)
			})
		}
		return nil
	})
	return device, c, err
}

// parseEntry reads one RDMA_NLDEV_ATTR_RES_SUMMARY_ENTRY into c.
func parseEntry(b []byte, c *Counts) error {
	var name string
	var count uint64
	err := netlink.ParseAttributes(b, func(a netlink.Attribute) (err error) {
		switch a.Kind {
		case attributeSummaryName:
			name = a.Text()
		case attributeSummaryCount:
			count, err = a.Number()
		}
		return err
	})
	*c.field(name) = count
	return err
}
