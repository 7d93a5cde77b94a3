package netaddr

import (
	"context"
	"net"
	"net/netip"
)

// Lookup resolves address to what a transport can dial, in the order of the resolver.
func Lookup(ctx context.Context, r *net.Resolver, network, address string) ([]netip.AddrPort, error) {
	list, err := Resolve(ctx, r, network, address)
	return Unmapped(list), err
}

// Unmapped returns the addresses, IPv4 in the form of IPv4.
func Unmapped(list []netip.AddrPort) []netip.AddrPort {
	var to []netip.AddrPort
	for _, a := range list {
		to = append(to, Unmap(a))
	}
	return to
}

// Resolve is Lookup with IPv4 in whichever form package net has it in errors.
func Resolve(ctx context.Context, r *net.Resolver, network, address string) ([]netip.AddrPort, error) {
	if r == nil {
		r = net.DefaultResolver
	}
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := r.LookupPort(ctx, network, service)
	if err != nil {
		return nil, err
	}
	if host == "" {
		addr := netip.IPv4Unspecified()
		if network == "tcp6" {
			addr = netip.IPv6Unspecified()
		}
		return []netip.AddrPort{netip.AddrPortFrom(addr, uint16(port))}, nil
	}
	var addrs []netip.Addr
	if literal, err := netip.ParseAddr(host); err == nil {
		addrs = []netip.Addr{literal} // with its zone, which LookupNetIP would drop
	} else if addrs, err = r.LookupNetIP(ctx, "ip"+network[len("tcp"):], host); err != nil {
		return nil, err
	}
	if len(addrs) == 1 && addrs[0].WithZone("") == netip.IPv6Unspecified() {
		addrs = append(addrs, netip.IPv4Unspecified()) // as package net does
	}
	list := make([]netip.AddrPort, 0, len(addrs))
	for _, addr := range addrs {
		if network == "tcp" || addr.Unmap().Is4() == (network == "tcp4") {
			list = append(list, netip.AddrPortFrom(addr, uint16(port)))
		}
	}
	if len(list) == 0 {
		return nil, &net.AddrError{Err: "no suitable address found", Addr: host}
	}
	return list, nil
}

// LookupLocal resolves an address to bind, preferring IPv4 as net.Listen does.
func LookupLocal(ctx context.Context, network, address string) (*net.TCPAddr, error) {
	if address == "" {
		return &net.TCPAddr{}, nil
	}
	list, err := Lookup(ctx, nil, network, address)
	if err != nil {
		return nil, err
	}
	if host, _, _ := net.SplitHostPort(address); host == "" {
		return &net.TCPAddr{Port: int(list[0].Port())}, nil
	}
	if first := list[0].Addr(); first.Is6() && first.IsUnspecified() {
		return TCP(list[0]), nil // which is both families; the next is IPv4's alone
	}
	for _, a := range list {
		if a.Addr().Is4() {
			return TCP(a), nil
		}
	}
	return TCP(list[0]), nil
}
