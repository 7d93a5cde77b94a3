package sockdiag

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/rdmanet/iwarp/internal/netlink"
)

// Sizes and numbers of linux/sock_diag.h and linux/inet_diag.h.
const (
	requestSize = 60 // struct inet_diag_req
	messageSize = 72 // struct inet_diag_msg

	typeGetTCP        = 18 // TCPDIAG_GETSOCK
	familyINET        = 2
	familyINET6       = 10
	attributeInfo     = 2 // INET_DIAG_INFO
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
		RecvQueue: netlink.Native.Uint32(b[56:]), SendQueue: netlink.Native.Uint32(b[60:]),
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
		switch {
		case a.Kind == attributeSKV6Only && len(a.Value) > 0:
			s.V6Only = a.Value[0] != 0
		case a.Kind == attributeInfo:
			s.TCP = parseInfo(a.Value)
		}
		return nil
	})
	return s, err
}

// detailed makes a request ask for struct tcp_info, too.
func detailed(request []byte) []byte {
	request[3] |= 1 << (attributeInfo - 1)
	return request
}

// parseInfo reads a struct tcp_info, of which older kernels have less.
func parseInfo(b []byte) *TCP {
	var all [216]byte
	copy(all[:], b)
	number := func(at int) uint32 { return netlink.Native.Uint32(all[at:]) }
	large := func(at int) uint64 { return netlink.Native.Uint64(all[at:]) }
	sent, again := large(200), large(208)
	return &TCP{
		RoundTrip: time.Duration(number(68)) * time.Microsecond, RoundTripVar: time.Duration(number(72)) * time.Microsecond,
		MSS: number(16), Window: number(80), Retransmitted: number(100), BytesIn: large(128), BytesOut: sent - min(again, sent),
		SegmentsIn: number(152), SegmentsOut: number(156), NotSent: number(144),
		LastSent: time.Duration(number(44)) * time.Millisecond, LastReceived: time.Duration(number(52)) * time.Millisecond,
	}
}
