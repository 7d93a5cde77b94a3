package sockdiag

import (
	"encoding/binary"
	"net/netip"

	"github.com/rdmanet/iwarp/internal/netlink"
)

// Sizes and numbers of linux/sock_diag.h and linux/inet_diag.h.
const (
	requestSize = 60 // struct inet_diag_req
	messageSize = 72 // struct inet_diag_msg

	typeGetTCP        = 18 // TCPDIAG_GETSOCK
	familyINET        = 2
	familyINET6       = 10
	attributeSKV6Only = 11
)

// request asks for the sockets in one of the states, a mask of 1<<State, that have the local port;
// 0 means any. It is of the older form, which is for both families at once: for each request the
// kernel goes through all its tables, which takes it a millisecond.
func request(states uint32, port uint16) []byte {
	b := make([]byte, requestSize)
	binary.BigEndian.PutUint16(b[4:], port)
	netlink.Native.PutUint32(b[52:], states)
	return b
}

// parseSocket reads a struct inet_diag_msg and the attributes that follow it.
func parseSocket(b []byte) (Socket, error) {
	if len(b) < messageSize {
		return Socket{}, netlink.ErrMalformed
	}
	s := Socket{
		State: State(b[1]), Interface: netlink.Native.Uint32(b[40:]), UID: netlink.Native.Uint32(b[64:]), Inode: netlink.Native.Uint32(b[68:]),
	}
	address := func(b []byte) netip.Addr {
		if len(b) == 16 {
			return netip.AddrFrom16([16]byte(b))
		}
		return netip.AddrFrom4([4]byte(b))
	}
	size := 4
	switch b[0] {
	case familyINET:
	case familyINET6:
		size = 16
	default:
		return Socket{}, netlink.ErrMalformed
	}
	s.Local = netip.AddrPortFrom(address(b[8:8+size]), binary.BigEndian.Uint16(b[4:]))
	s.Remote = netip.AddrPortFrom(address(b[24:24+size]), binary.BigEndian.Uint16(b[6:]))
	err := netlink.ParseAttributes(b[messageSize:], func(a netlink.Attribute) error {
		if a.Kind == attributeSKV6Only && len(a.Value) > 0 {
			s.V6Only = a.Value[0] != 0
		}
		return nil
	})
	return s, err
}
