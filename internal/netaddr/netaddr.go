// Package netaddr has what package net knows about TCP addresses and keeps to itself.
package netaddr

import (
	"net"
	"net/netip"
	"strconv"
)

// IsTCP reports whether network is "tcp", "tcp4" or "tcp6".
func IsTCP(network string) bool {
	return network == "tcp" || network == "tcp4" || network == "tcp6"
}

// TCP returns a as package net has it in the errors of a dial.
func TCP(a netip.AddrPort) *net.TCPAddr {
	t := net.TCPAddrFromAddrPort(a)
	t.IP = t.IP.To16()
	return t
}

// Of returns the address and port of a, IPv4 in the form of IPv4, or the zero value if a is not of
// TCP.
func Of(a net.Addr) netip.AddrPort {
	if t, ok := a.(*net.TCPAddr); ok && t != nil {
		return Unmap(t.AddrPort())
	}
	return netip.AddrPort{}
}

// Unmap gives IPv4 in IPv6 the form of IPv4.
func Unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// Network returns "tcp4" or "tcp6", whichever the address belongs to.
func Network(a netip.Addr) string {
	if a.Unmap().Is4() {
		return "tcp4"
	}
	return "tcp6"
}

// Narrow narrows the network to the family of an address with a port, if the address shows it.
func Narrow(network, address string) string {
	a, err := netip.ParseAddrPort(address)
	if err != nil {
		return network
	}
	return Network(a.Addr())
}

// IsWildcard reports whether ip stands for every address.
func IsWildcard(ip net.IP) bool { return len(ip) == 0 || ip.IsUnspecified() }

// Canonical makes one address of the ways to write it: IPv4 in IPv6 unmapped, and a zone by its
// number.
func Canonical(a netip.Addr) netip.Addr {
	a = a.Unmap()
	if !a.IsLinkLocalUnicast() {
		return a.WithZone("")
	}
	if i := ZoneIndex(a.Zone()); i != 0 {
		return a.WithZone(InterfaceName(i))
	}
	return a
}

// Zoned gives a link-local address the interface that it belongs to.
func Zoned(a netip.AddrPort, index uint32) netip.AddrPort {
	a = Unmap(a)
	if a.Addr().Is6() && a.Addr().IsLinkLocalUnicast() && index != 0 {
		return netip.AddrPortFrom(a.Addr().WithZone(InterfaceName(index)), a.Port())
	}
	return a
}

// ZoneIndex returns the interface of a zone, by its name or number, or 0.
func ZoneIndex(zone string) uint32 {
	if zone == "" {
		return 0
	}
	if ifi, err := net.InterfaceByName(zone); err == nil {
		return uint32(ifi.Index)
	}
	n, _ := strconv.ParseUint(zone, 10, 32)
	return uint32(n)
}

// InterfaceName returns the name of an interface, its number if it is gone, or "" for 0.
func InterfaceName(index uint32) string {
	if index == 0 {
		return ""
	}
	if ifi, err := net.InterfaceByIndex(int(index)); err == nil {
		return ifi.Name
	}
	return strconv.FormatUint(uint64(index), 10)
}
