package bound

import (
	"net"
	"net/netip"

	"github.com/rdmanet/iwarp/internal/sockdiag"
)

// A Binding is what tells the sockets of one port apart: the kernel lets two have the port if their
// Bindings differ enough.
type Binding struct {
	Addr   netip.Addr // unmapped and without zone; unspecified for a wildcard
	Only6  bool       // a wildcard of IPv6 that leaves IPv4 alone
	Device uint32     // index of the interface that it is bound to, as a link-local address always is; 0 is any
	Netns  uint64     // cookie of the network namespace; 0 where the system has none
}

// bindingOf is the binding to a local address, as far as the address says.
func bindingOf(a *net.TCPAddr, v6, only6 bool) Binding {
	addr, _ := netip.AddrFromSlice(a.IP)
	b := Binding{Addr: addr.Unmap()}
	if b.Addr.IsUnspecified() || !b.Addr.IsValid() {
		b.Addr, b.Only6 = netip.IPv4Unspecified(), only6
		if v6 {
			b.Addr = netip.IPv6Unspecified()
		}
	}
	return b
}

// Dual reports whether a socket there has both families.
func (b Binding) Dual() bool { return b.Addr.Is6() && b.Addr.IsUnspecified() && !b.Only6 }

// Reaches reports whether a socket there can be connected to a, or gets what comes from a.
func (b Binding) Reaches(a netip.Addr) bool {
	return b.Dual() || b.Addr.Is4() == a.Unmap().Is4()
}

// Fits says how well the binding is what a listener of the network wants at host, which is empty
// for any: 0 is not at all. A given host decides the family of a wildcard, but for "tcp" the socket
// of both families does as well, as it is what package net makes of either wildcard. Without a host
// "tcp" means both families, unless the system has only one.
func (b Binding) Fits(network string, host net.IP, oneFamily func() bool) int {
	wanted, _ := netip.AddrFromSlice(host)
	wanted = wanted.Unmap()
	switch {
	case network == "tcp4" && !b.Addr.Is4(), network == "tcp6" && (!b.Addr.Is6() || b.Dual()):
		return 0
	case wanted.IsValid() && !wanted.IsUnspecified():
		return score(b.Addr == wanted.WithZone(""), 1)
	case !b.Addr.IsUnspecified():
		return 0
	case network != "tcp":
		return score(!wanted.IsValid() || wanted == b.Addr, 1)
	case !wanted.IsValid():
		return score(b.Dual() || oneFamily(), 1)
	case wanted.Is4():
		return score(b.Addr.Is4(), 2) + score(b.Dual(), 1)
	default:
		return score(b.Dual(), 2) + score(b.Addr.Is6() && b.Only6, 1)
	}
}

// InTheWay reports whether s prevents another socket from being bound there.
func (b Binding) InTheWay(s sockdiag.Socket) bool {
	return s.Meets(b.Device) && s.Covers(b.Addr, b.Only6)
}

func score(ok bool, n int) int {
	if ok {
		return n
	}
	return 0
}
