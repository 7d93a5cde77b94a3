package iwarp

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"syscall"
)

// A PortSpace holds TCP ports of the host, each by a socket of the kernel, so that they are taken for
// everybody: for sockets, and for devices that have ports of their own. The zero value is ready for use.
//
// A nil *PortSpace stands for DefaultPortSpace.
//
// Listen, and a Dialer with such a LocalAddr, take over a reservation of their PortSpace where it has exactly the address asked for.
// All else is bound by the kernel socket that listens or connects.
type PortSpace struct {
	// Control, if not nil, is called on each reserving socket before it is bound, with "tcp4" or "tcp6". A
	// reservation of port 0 may take two sockets to make.
	Control func(network, address string, c syscall.RawConn) error

	mu   sync.Mutex
	idle map[*Reservation]struct{} // reservations whose socket neither listens nor is connected
}

// DefaultPortSpace is the PortSpace of Dialers and ListenConfigs that name none.
var DefaultPortSpace = &PortSpace{}

func (ps *PortSpace) or() *PortSpace {
	if ps == nil {
		return DefaultPortSpace
	}
	return ps
}

// Reserve takes the port of address for the process. The network is "tcp", "tcp4" or "tcp6", and the address has the form
// that Listen takes: an empty host is every address of the host, for "tcp" of both families; port 0 is any free
// port, which Addr tells. A port that is in use is an error that matches syscall.EADDRINUSE, a foreign address
// syscall.EADDRNOTAVAIL, a port that needs a privilege syscall.EACCES.
//
// On Linux nobody can connect to the port until Listen, nor take it, not even with SO_REUSEADDR, and connections of an earlier
// listener in TIME_WAIT are not in the way. Elsewhere the reserving socket listens from the start, and
// clients wait in its backlog.
func (ps *PortSpace) Reserve(ctx context.Context, network, address string) (*Reservation, error) {
	if !isTCP(network) {
		return nil, &net.OpError{Op: "reserve", Net: network, Err: net.UnknownNetworkError(network)}
	}
	local, err := lookupLocal(ctx, network, address)
	if err != nil {
		return nil, &net.OpError{Op: "reserve", Net: network, Err: err}
	}
	return ps.or().reserve(ctx, network, local)
}

func (ps *PortSpace) reserve(ctx context.Context, network string, local *net.TCPAddr) (*Reservation, error) {
	s, err := bindSocket(ctx, network, local, ps.Control)
	if err != nil {
		return nil, &net.OpError{Op: "reserve", Net: network, Addr: local, Err: err}
	}
	r := &Reservation{space: ps, network: network, addr: *s.addr(), socket: s}
	ps.add(r)
	return r, nil
}

// hold reserves a local port for a connection to remote from a device that serves addrs. The reservation is the connection's alone.
func (ps *PortSpace) hold(ctx context.Context, local, remote netip.AddrPort, addrs []netip.Addr) (*Reservation, error) {
	addr := local.Addr()
	for _, own := range addrs {
		if !addr.IsValid() && own.Unmap().Is4() == remote.Addr().Is4() {
			addr = own.Unmap()
		}
	}
	network := "tcp6"
	if remote.Addr().Is4() {
		network = "tcp4"
	}
	laddr := &net.TCPAddr{Port: int(local.Port())}
	if addr.IsValid() {
		laddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(addr, local.Port()))
	}
	if r := ps.match("", laddr); r != nil && ps.remove(r) {
		return r, nil
	}
	r, err := ps.reserve(ctx, network, laddr)
	if err == nil {
		ps.remove(r)
	}
	return r, err
}

func (ps *PortSpace) add(r *Reservation) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.idle == nil {
		ps.idle = make(map[*Reservation]struct{})
	}
	ps.idle[r] = struct{}{}
}

// remove makes sure that nobody else finds r, and reports whether it was there to be found.
func (ps *PortSpace) remove(r *Reservation) bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	_, ok := ps.idle[r]
	delete(ps.idle, r)
	return ok
}

// match returns the idle reservation of a, if there is one.
func (ps *PortSpace) match(network string, a net.Addr) *Reservation {
	t, ok := a.(*net.TCPAddr)
	if !ok || t == nil || t.Port == 0 {
		return nil
	}
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for r := range ps.idle {
		if r.addr.Port == t.Port && sameHost(&r.addr, t) && (network == "" || network == r.network) {
			return r
		}
	}
	return nil
}

// matchListen is match for the address given to Listen. It resolves a name only if a reservation has the port.
func (ps *PortSpace) matchListen(ctx context.Context, network, address string) *Reservation {
	_, service, err := net.SplitHostPort(address)
	if err != nil {
		return nil
	}
	port, err := net.DefaultResolver.LookupPort(ctx, network, service)
	if err != nil || !ps.hasPort(port) {
		return nil
	}
	local, err := lookupLocal(ctx, network, address)
	if err != nil {
		return nil
	}
	return ps.match(network, local)
}

func (ps *PortSpace) hasPort(port int) bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for r := range ps.idle {
		if r.addr.Port == port {
			return true
		}
	}
	return false
}

func sameHost(a, b *net.TCPAddr) bool {
	if isWildcard(a.IP) || isWildcard(b.IP) {
		return isWildcard(a.IP) && isWildcard(b.IP)
	}
	return a.IP.Equal(b.IP) && a.Zone == b.Zone
}

func isWildcard(ip net.IP) bool { return len(ip) == 0 || ip.IsUnspecified() }

// lookupLocal resolves an address to bind, preferring IPv4 as net.Listen does.
func lookupLocal(ctx context.Context, network, address string) (*net.TCPAddr, error) {
	if address == "" {
		return &net.TCPAddr{}, nil
	}
	list, err := lookup(ctx, nil, network, address)
	if err != nil {
		return nil, err
	}
	if host, _, _ := net.SplitHostPort(address); host == "" {
		return &net.TCPAddr{Port: int(list[0].Port())}, nil
	}
	for _, a := range list {
		if a.Addr().Is4() {
			return netAddr(a), nil
		}
	}
	return netAddr(list[0]), nil
}
