package iwarp

import (
	"net"
	"net/netip"
)

// A binding is what tells the sockets of one port apart: the kernel lets two have the port where
// they differ in it enough.
type binding struct {
	addr   netip.Addr // unmapped and without zone; unspecified for a wildcard
	only6  bool       // a wildcard of IPv6 that leaves IPv4 alone
	device uint32     // index of the interface that it is bound to, as a link-local address always is; 0 is any
	netns  uint64     // cookie of the network namespace; 0 where the system has none
}

// bindingOf is the binding to a local address as far as the address tells it.
func bindingOf(a *net.TCPAddr, v6, only6 bool) binding {
	addr, _ := netip.AddrFromSlice(a.IP)
	b := binding{addr: addr.Unmap()}
	if b.addr.IsUnspecified() || !b.addr.IsValid() {
		b.addr, b.only6 = netip.IPv4Unspecified(), only6
		if v6 {
			b.addr = netip.IPv6Unspecified()
		}
	}
	return b
}

func (b binding) dual() bool { return b.addr.Is6() && b.addr.IsUnspecified() && !b.only6 }

// reaches reports whether a socket there can be connected to a, or gets what comes from a.
func (b binding) reaches(a netip.Addr) bool {
	return b.dual() || b.addr.Is4() == a.Unmap().Is4()
}

// fits tells how well the binding is what a listener of the network wants at host, which is empty
// for any: 0 is not at all. A host that is given says of which family a wildcard is to be, but for
// "tcp" the socket of both families does as well, as it is what package net makes of either
// wildcard. Without a host "tcp" means both families, unless the system has one only.
func (b binding) fits(network string, host net.IP, oneFamily func() bool) int {
	wanted, _ := netip.AddrFromSlice(host)
	wanted = wanted.Unmap()
	switch {
	case network == "tcp4" && !b.addr.Is4(), network == "tcp6" && (!b.addr.Is6() || b.dual()):
		return 0
	case wanted.IsValid() && !wanted.IsUnspecified():
		return score(b.addr == wanted.WithZone(""), 1)
	case !b.addr.IsUnspecified():
		return 0
	case network != "tcp":
		return score(!wanted.IsValid() || wanted == b.addr, 1)
	case !wanted.IsValid():
		return score(b.dual() || oneFamily(), 1)
	case wanted.Is4():
		return score(b.addr.Is4(), 2) + score(b.dual(), 1)
	default:
		return score(b.dual(), 2) + score(b.addr.Is6() && b.only6, 1)
	}
}

func score(ok bool, n int) int {
	if ok {
		return n
	}
	return 0
}
