package iwarp

import (
	"context"
	"net"
	"net/netip"
)

// lookup resolves address to what a transport can dial, in the order of the resolver.
func lookup(ctx context.Context, r *net.Resolver, network, address string) ([]netip.AddrPort, error) {
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
		if addr = addr.Unmap(); network == "tcp" || addr.Is4() == (network == "tcp4") {
			list = append(list, netip.AddrPortFrom(addr, uint16(port)))
		}
	}
	if len(list) == 0 {
		return nil, &net.AddrError{Err: "no suitable address found", Addr: host}
	}
	return list, nil
}

// netAddr returns a as package net has it in the errors of a dial.
func netAddr(a netip.AddrPort) *net.TCPAddr {
	t := net.TCPAddrFromAddrPort(a)
	t.IP = t.IP.To16()
	return t
}

func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// familyOf narrows the network to the family of the address, if that tells it.
func familyOf(network, address string) string {
	a, err := netip.ParseAddrPort(address)
	switch {
	case err != nil:
		return network
	case a.Addr().Unmap().Is4():
		return "tcp4"
	}
	return "tcp6"
}
