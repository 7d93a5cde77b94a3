// Package portmap speaks the wire protocol of the iWARP port mapper (iwpmd), by which a connecting
// peer asks over UDP which port stands for the one it wants (draft-pinkerton-iwarp-sdp-v1.0, and
// rdma-core's iwpmd).
package portmap

import (
	"encoding/binary"
	"errors"
	"net/netip"
)

// Port is the UDP port of the protocol.
const Port = 3935

// Kind is the type of a message.
type Kind uint8

// The messages: a Request is answered by Accept or Reject, an Accept by Ack.
const (
	Request Kind = iota
	Accept
	Ack
	Reject
)

const (
	size        = 48
	requestSize = 64
)

// A Message is one datagram.
type Message struct {
	Kind        Kind
	Time        uint8  // pmtime
	Association uint64 // chosen by the one that asks, and repeated in the answer
	Accepting   netip.AddrPort
	Connecting  netip.AddrPort
	Mapped      netip.AddrPort // Request only: what stands for Connecting on the wire
}

// Errors of Parse.
var (
	ErrSize    = errors.New("port mapper message of a wrong size")
	ErrVersion = errors.New("port mapper message of an unknown version")
	ErrFamily  = errors.New("port mapper message for neither IPv4 nor IPv6")
)

// Parse reads a datagram. A Request may lack the mapped address, as one without the last 16 bytes
// does.
func Parse(b []byte) (Message, error) {
	if len(b) < size || len(b) > requestSize {
		return Message{}, ErrSize
	}
	if b[0]>>6 != 0 {
		return Message{}, ErrVersion
	}
	bits := 4
	switch b[0] & 0xf {
	case 4:
	case 6:
		bits = 16
	default:
		return Message{}, ErrFamily
	}
	address := func(at, port int) netip.AddrPort {
		a, _ := netip.AddrFromSlice(b[at : at+bits])
		return netip.AddrPortFrom(a, binary.BigEndian.Uint16(b[port:]))
	}
	m := Message{
		Kind: Kind(b[0] >> 4 & 3), Time: b[1], Association: binary.BigEndian.Uint64(b[8:]),
		Accepting: address(32, 4), Connecting: address(16, 6),
	}
	if m.Kind == Request && len(b) == requestSize {
		m.Mapped = address(48, 2)
	}
	return m, nil
}

// Append appends the datagram of m to b. The addresses must be of the family of Accepting; what
// differs is sent as zeros.
func (m Message) Append(b []byte) []byte {
	at, n := len(b), size
	if m.Kind == Request {
		n = requestSize
	}
	b = append(b, make([]byte, n)...)
	p := b[at:]
	family := byte(6)
	if m.Accepting.Addr().Is4() {
		family = 4
	}
	p[0], p[1] = byte(m.Kind&3)<<4|family, m.Time
	binary.BigEndian.PutUint64(p[8:], m.Association)
	put := func(a netip.AddrPort, at, port int) {
		binary.BigEndian.PutUint16(p[port:], a.Port())
		if a.Addr().IsValid() && a.Addr().Is4() == (family == 4) {
			copy(p[at:at+16], a.Addr().AsSlice())
		}
	}
	put(m.Accepting, 32, 4)
	put(m.Connecting, 16, 6)
	if m.Kind == Request {
		put(m.Mapped, 48, 2)
	}
	return b
}

// Answer returns the message that answers m, a Request: that the port on the wire is the very port
// asked for, or with Reject that nobody listens on it.
func (m Message) Answer(k Kind) Message {
	m.Kind, m.Mapped = k, netip.AddrPort{}
	return m
}
