//go:build amd64 || arm64

package rnic

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp/internal/netaddr"
)

// putSockaddr makes b a struct sockaddr_in or sockaddr_in6.
func putSockaddr(b *[sockaddrLen]byte, a netip.AddrPort) {
	clear(b[:])
	ip := a.Addr().Unmap()
	binary.BigEndian.PutUint16(b[2:], a.Port())
	if ip.Is4() {
		binary.NativeEndian.PutUint16(b[:], unix.AF_INET)
		as4 := ip.As4()
		copy(b[4:], as4[:])
		return
	}
	binary.NativeEndian.PutUint16(b[:], unix.AF_INET6)
	as16 := ip.As16()
	copy(b[8:], as16[:])
	binary.NativeEndian.PutUint32(b[24:], netaddr.ZoneIndex(ip.Zone()))
}

// addrPort reads a struct sockaddr_in or sockaddr_in6; others are no address.
func addrPort(b *[sockaddrLen]byte) netip.AddrPort {
	port := binary.BigEndian.Uint16(b[2:])
	switch binary.NativeEndian.Uint16(b[:]) {
	case unix.AF_INET:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), port)
	case unix.AF_INET6:
		ip := netip.AddrFrom16([16]byte(b[8:24]))
		if id := binary.NativeEndian.Uint32(b[24:]); id != 0 && ip.IsLinkLocalUnicast() {
			ip = ip.WithZone(netaddr.InterfaceName(id))
		}
		return netip.AddrPortFrom(ip.Unmap(), port)
	}
	return netip.AddrPort{}
}
