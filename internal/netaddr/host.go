package netaddr

import (
	"net"
	"net/netip"
	"slices"
)

// OfHost returns the unicast addresses of the interfaces that are up, link-local ones with their
// zone.
func OfHost() ([]netip.Addr, error) {
	ifis, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var list []netip.Addr
	for _, ifi := range ifis {
		if ifi.Flags&net.FlagUp == 0 {
			continue
		}
		if list, err = add(list, ifi); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// OfInterface returns the unicast addresses of an interface, link-local ones with their zone.
func OfInterface(ifi net.Interface) ([]netip.Addr, error) { return add(nil, ifi) }

func add(list []netip.Addr, ifi net.Interface) ([]netip.Addr, error) {
	addrs, err := ifi.Addrs()
	if err != nil {
		return nil, err
	}
	for _, a := range addrs {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		addr, _ := netip.AddrFromSlice(n.IP)
		if addr = addr.Unmap(); addr.Is6() && addr.IsLinkLocalUnicast() {
			addr = addr.WithZone(ifi.Name)
		}
		if addr.IsValid() && !slices.Contains(list, addr) {
			list = append(list, addr)
		}
	}
	return list, nil
}
