package nldev

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"strconv"

	"github.com/rdmanet/iwarp/internal/netlink"
)

// most bounds the objects of an answer, and with them the memory that it takes.
const most = 1 << 18

// ErrTooMany says that a device has more objects than are listed.
var ErrTooMany = errors.New("the device has more than " + strconv.Itoa(most) + " objects of the kind")

// parseEntries calls each with the entries of a table of an answer.
func parseEntries(b []byte, table, entry uint16, each func([]byte) error) error {
	return netlink.ParseAttributes(b, func(a netlink.Attribute) error {
		if a.Kind != table {
			return nil
		}
		return netlink.ParseAttributes(a.Value, func(a netlink.Attribute) error {
			if a.Kind != entry {
				return nil
			}
			return each(a.Value)
		})
	})
}

// parseCMID reads one RDMA_NLDEV_ATTR_RES_CM_ID_ENTRY.
func parseCMID(b []byte) (c CMID, err error) {
	err = netlink.ParseAttributes(b, func(a netlink.Attribute) (err error) {
		switch a.Kind {
		case attributeCMIDNumber:
			err = set(a, &c.Number)
		case attributePortIndex:
			err = set(a, &c.Port)
		case attributeLocalQPN:
			err = set(a, &c.QPN)
		case attributePortSpace:
			err = set(a, &c.Space)
		case attributeState:
			err = set(a, &c.State)
		case attributeSource:
			c.Local, err = parseAddress(a.Value)
		case attributeDestination:
			c.Remote, err = parseAddress(a.Value)
		default:
			err = c.Owner.parse(a)
		}
		return err
	})
	return c, err
}

// parseQP reads one RDMA_NLDEV_ATTR_RES_QP_ENTRY.
func parseQP(b []byte) (q QP, err error) {
	err = netlink.ParseAttributes(b, func(a netlink.Attribute) (err error) {
		switch a.Kind {
		case attributeLocalQPN:
			err = set(a, &q.Number)
		case attributeRemoteQPN:
			err = set(a, &q.Remote)
		case attributePortIndex:
			err = set(a, &q.Port)
		case attributeType:
			err = set(a, &q.Type)
		case attributeState:
			err = set(a, &q.State)
		default:
			err = q.Owner.parse(a)
		}
		return err
	})
	return q, err
}

func (o *Owner) parse(a netlink.Attribute) (err error) {
	switch a.Kind {
	case attributePID:
		err = set(a, &o.PID)
	case attributeKernelName:
		o.Kernel = a.Text()
	}
	return err
}

// parseAddress reads a struct sockaddr. That of a family without IP is no address. A link-local
// address has the index of its interface for a zone.
func parseAddress(b []byte) (netip.AddrPort, error) {
	const inet, inet6 = 2, 10
	if len(b) < 2 {
		return netip.AddrPort{}, netlink.ErrMalformed
	}
	switch family := netlink.Native.Uint16(b); {
	case family == inet && len(b) >= 16:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:])), binary.BigEndian.Uint16(b[2:])), nil
	case family == inet6 && len(b) >= 28:
		addr := netip.AddrFrom16([16]byte(b[8:]))
		if zone := netlink.Native.Uint32(b[24:]); zone != 0 && addr.IsLinkLocalUnicast() {
			addr = addr.WithZone(strconv.FormatUint(uint64(zone), 10))
		}
		return netip.AddrPortFrom(addr, binary.BigEndian.Uint16(b[2:])), nil
	case family == inet, family == inet6:
		return netip.AddrPort{}, netlink.ErrMalformed
	}
	return netip.AddrPort{}, nil
}
