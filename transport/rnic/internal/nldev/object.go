package nldev

// parseLink reads the attributes of an answer about a device (GET, GET_CHARDEV) or a port
// (PORT_GET) into l and leaves alone what they do not say. For a device the port is the number of
// its ports.
func parseLink(b []byte, l *Link) error {
	return parseAttributes(b, func(a attribute) (err error) {
		switch a.kind {
		case attributeDeviceIndex:
			err = set(a, &l.Index)
		case attributeDeviceName:
			l.Device = a.text()
		case attributePortIndex:
			err = set(a, &l.Port)
		case attributePortState:
			err = set(a, &l.State)
		case attributeNodeType:
			err = set(a, &l.Node)
		case attributeNetDevIndex:
			err = set(a, &l.NetDevIndex)
		case attributeNetDevName:
			l.NetDev = a.text()
		case attributeProtocol:
			l.Protocol = a.text()
		case attributeChardevName:
			l.Chardev = a.text()
		case attributeDriver:
			err = set(a, &l.Driver)
		}
		return err
	})
}

// set stores the number of an attribute, which must fit.
func set[T ~uint8 | ~uint32](a attribute, v *T) error {
	n, err := a.number()
	if err != nil || uint64(T(n)) != n {
		return errMalformed
	}
	*v = T(n)
	return nil
}

// parseCounts reads the name of a device and what exists of it from an answer to RES_GET.
func parseCounts(b []byte) (device string, c Counts, err error) {
	err = parseAttributes(b, func(a attribute) error {
		switch a.kind {
		case attributeDeviceName:
			device = a.text()
		case attributeSummary:
			return parseAttributes(a.value, func(a attribute) error {
				if a.kind != attributeSummaryEntry {
					return nil
				}
				return parseEntry(a.value, &c)
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
	err := parseAttributes(b, func(a attribute) (err error) {
		switch a.kind {
		case attributeSummaryName:
			name = a.text()
		case attributeSummaryCount:
			count, err = a.number()
		}
		return err
	})
	*c.field(name) = count
	return err
}
