package sockdiag

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"syscall"
)

// Sizes and numbers of linux/netlink.h, linux/sock_diag.h and linux/inet_diag.h.
const (
	headerSize  = 16 // struct nlmsghdr
	requestSize = 56 // struct inet_diag_req_v2
	messageSize = 72 // struct inet_diag_msg

	typeError         = 2
	typeDone          = 3
	typeDiagByFamily  = 20
	flagRequestDump   = 0x1 | 0x300
	protocolTCP       = 6
	familyINET        = 2
	familyINET6       = 10
	attributeSKV6Only = 11
)

var errMalformed = errors.New("malformed netlink message")

var native = binary.NativeEndian

// appendRequest appends a request for all sockets of family in one of the states, a mask of
// 1<<State, that have the local port; 0 means any.
func appendRequest(b []byte, family uint8, states uint32, port uint16, seq uint32) []byte {
	b = native.AppendUint32(b, headerSize+requestSize)
	b = native.AppendUint16(b, typeDiagByFamily)
	b = native.AppendUint16(b, flagRequestDump)
	b = native.AppendUint32(b, seq)
	b = native.AppendUint32(b, 0)
	b = append(b, family, protocolTCP, 0, 0)
	b = native.AppendUint32(b, states)
	b = binary.BigEndian.AppendUint16(b, port)
	return append(b, make([]byte, 46)...)
}

// parse appends to list the sockets in a datagram that answers request seq, and reports whether it
// ends the answer.
func parse(list []Socket, b []byte, seq uint32) (_ []Socket, done bool, err error) {
	for len(b) > 0 {
		if len(b) < headerSize {
			return list, false, errMalformed
		}
		size := int(native.Uint32(b))
		if size < headerSize || size > len(b) {
			return list, false, errMalformed
		}
		body := b[headerSize:size]
		ours := native.Uint32(b[8:]) == seq
		switch kind := native.Uint16(b[4:]); {
		case !ours: // the rest of an answer that nobody waits for
		case kind == typeDone:
			return list, true, nil
		case kind == typeError:
			if len(body) < 4 {
				return list, false, errMalformed
			}
			if code := int32(native.Uint32(body)); code < 0 {
				return list, true, syscall.Errno(-code)
			}
		case kind == typeDiagByFamily:
			s, err := parseSocket(body)
			if err != nil {
				return list, false, err
			}
			list = append(list, s)
		}
		b = b[min(align(size), len(b)):]
	}
	return list, false, nil
}

// parseSocket reads a struct inet_diag_msg and the attributes that follow it.
func parseSocket(b []byte) (Socket, error) {
	if len(b) < messageSize {
		return Socket{}, errMalformed
	}
	s := Socket{
		State: State(b[1]), Interface: native.Uint32(b[40:]), UID: native.Uint32(b[64:]), Inode: native.Uint32(b[68:]),
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
		return Socket{}, errMalformed
	}
	s.Local = netip.AddrPortFrom(address(b[8:8+size]), binary.BigEndian.Uint16(b[4:]))
	s.Remote = netip.AddrPortFrom(address(b[24:24+size]), binary.BigEndian.Uint16(b[6:]))
	for b = b[messageSize:]; len(b) >= 4; {
		size := int(native.Uint16(b))
		if size < 4 || size > len(b) {
			return Socket{}, errMalformed
		}
		if native.Uint16(b[2:]) == attributeSKV6Only && size > 4 {
			s.V6Only = b[4] != 0
		}
		b = b[min(align(size), len(b)):]
	}
	return s, nil
}

// align rounds up to where the next message or attribute starts.
func align(n int) int { return (n + 3) &^ 3 }
