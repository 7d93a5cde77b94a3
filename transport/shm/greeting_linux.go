package shm

import (
	"encoding/binary"
	"errors"
	"net/netip"
)

// A greeting is what the two ends say on the Unix socket: the client a request, and the server an
// answer. The memory of the speaking end comes with a request and with a consent.
//
//	0   8  magic "iWARPshm"
//	8   1  version, 4: also of what the words of the memory mean
//	9   1  kind
//	10  2  bytes of private data
//	12  2  IRD
//	14  2  ORD
//	16 18  in a request: address and port that the client has
//	34 18  in a request: address and port that it has dialed
//	52  4  scope of link-local addresses
//	56     private data
//
// Integers are little-endian.
type greeting struct {
	kind          greetingKind
	ird, ord      int
	local, remote netip.AddrPort
	scope         uint32
	private       []byte
}

type greetingKind uint8

const (
	request greetingKind = iota + 1
	consent
	refusal
	// The service is about to leave, or lacks something: another process may take the request. Private
	// data says that it has a connection from the client's address and port.
	again
)

const (
	greetingMagic   = "iWARPshm"
	greetingVersion = 4
	greetingLen     = 56
	mostPrivate     = 512
)

var (
	errGreeting = errors.New("what the peer sent is no greeting")
	errVersion  = errors.New("peer speaks another version")
	errPrivate  = errors.New("private data is longer than 512 bytes")
)

func (g *greeting) append(b []byte) []byte {
	b = append(b, greetingMagic...)
	b = append(b, greetingVersion, byte(g.kind))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(g.private)))
	b = binary.LittleEndian.AppendUint16(b, uint16(g.ird))
	b = binary.LittleEndian.AppendUint16(b, uint16(g.ord))
	for _, a := range []netip.AddrPort{g.local, g.remote} {
		var ip [16]byte
		if a.IsValid() {
			ip = a.Addr().As16()
		}
		b = append(b, ip[:]...)
		b = binary.LittleEndian.AppendUint16(b, a.Port())
	}
	b = binary.LittleEndian.AppendUint32(b, g.scope)
	return append(b, g.private...)
}

// greetingSize returns how long the greeting is that begins with b, which has greetingLen bytes.
func greetingSize(b []byte) (int, error) {
	switch {
	case string(b[:len(greetingMagic)]) != greetingMagic:
		return 0, errGreeting
	case b[8] != greetingVersion:
		return 0, errVersion
	}
	n := int(binary.LittleEndian.Uint16(b[10:]))
	if n > mostPrivate {
		return 0, errGreeting
	}
	return greetingLen + n, nil
}

// parseGreeting decodes b, which has the size that greetingSize says.
func parseGreeting(b []byte) (*greeting, error) {
	g := &greeting{
		kind:    greetingKind(b[9]),
		ird:     int(binary.LittleEndian.Uint16(b[12:])),
		ord:     int(binary.LittleEndian.Uint16(b[14:])),
		scope:   binary.LittleEndian.Uint32(b[52:]),
		private: b[greetingLen:],
	}
	for i, a := range []*netip.AddrPort{&g.local, &g.remote} {
		at := b[16+18*i:]
		*a = netip.AddrPortFrom(netip.AddrFrom16([16]byte(at[:16])).Unmap(), binary.LittleEndian.Uint16(at[16:]))
	}
	if g.kind < request || g.kind > again {
		return nil, errGreeting
	}
	return g, nil
}
