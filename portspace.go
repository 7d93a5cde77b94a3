package iwarp

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"

	"github.com/rdmanet/iwarp/internal/bound"
	"github.com/rdmanet/iwarp/internal/netaddr"
	"github.com/rdmanet/iwarp/internal/neterr"
	"github.com/rdmanet/iwarp/transport"
)

// A PortSpace holds TCP ports of the host, each by a socket of the kernel, so that they are taken
// for everybody: for sockets, and for devices that have ports of their own. The zero value is ready
// for use.
//
// A nil *PortSpace stands for DefaultPortSpace.
//
// Listen, and a Dialer with such a LocalAddr, take over a reservation of their PortSpace where it
// has exactly the address asked for: in the network namespace of the caller, with the interface
// that Control binds to, and for the families that are wanted. All else is bound by the kernel
// socket that listens or connects.
type PortSpace struct {
	// Control, if not nil, is called on each reserving socket before it is bound, with "tcp4" or
	// "tcp6". One reservation may take several sockets to make.
	Control func(network, address string, c syscall.RawConn) error

	holding sync.Mutex // by hold for a port that it was told; Control may be called with it

	mu     sync.Mutex
	held   map[int][]*Reservation     // all that have a port, by its number
	shared map[sharedKey]*sharedPorts // ports of devices' connections
	sets   []*PortSet
	rest   []inherited // what Inherit left
}

// sharedKey is where devices' connections share ports.
type sharedKey struct {
	local netip.Addr
	netns uint64
}

// DefaultPortSpace is the PortSpace of Dialers and ListenConfigs that name none.
var DefaultPortSpace = &PortSpace{}

func (ps *PortSpace) or() *PortSpace {
	if ps == nil {
		return DefaultPortSpace
	}
	return ps
}

// Reserve takes the port of address for the process. The network is "tcp", "tcp4" or "tcp6", and
// the address has the form that Listen takes: an empty host is every address of the host, for "tcp"
// of both families; port 0 is any free port, which Addr tells. A port that is in use is an error
// that matches syscall.EADDRINUSE, a foreign address syscall.EADDRNOTAVAIL, a port that needs a
// privilege syscall.EACCES.
//
// On Linux nobody can connect to the port until Listen, nor take it, not even with SO_REUSEADDR,
// and connections of an earlier listener in TIME_WAIT are not in the way. Elsewhere the reserving
// socket listens from the start, and clients wait in its backlog.
func (ps *PortSpace) Reserve(ctx context.Context, network, address string) (*Reservation, error) {
	if !netaddr.IsTCP(network) {
		return nil, &net.OpError{Op: "reserve", Net: network, Err: net.UnknownNetworkError(network)}
	}
	local, err := netaddr.LookupLocal(ctx, network, address)
	if err != nil {
		return nil, &net.OpError{Op: "reserve", Net: network, Err: err}
	}
	if err := ctx.Err(); err != nil {
		return nil, &net.OpError{Op: "reserve", Net: network, Addr: local, Err: neterr.OfContext(err)}
	}
	return ps.or().reserve(ctx, network, local)
}

func (ps *PortSpace) reserve(ctx context.Context, network string, local *net.TCPAddr) (*Reservation, error) {
	return ps.bind(ctx, local, ps.Control, &Reservation{network: network})
}

// bind gives r a socket that has the port of local.
func (ps *PortSpace) bind(ctx context.Context, local *net.TCPAddr, control bound.Control, r *Reservation) (*Reservation, error) {
	s, err := bound.Bind(ctx, r.network, local, control, r.owner == listenerOwner)
	if err != nil {
		at := netip.AddrPortFrom(s.At().Addr, uint16(local.Port))
		return nil, &net.OpError{Op: "reserve", Net: r.network, Addr: local, Err: conflict(at, s.At(), err)}
	}
	r.socket, r.addr, r.at = s, *s.TCPAddr(), s.At()
	return ps.add(r), nil
}

// hold takes a share in a local port for a connection to remote from a device that serves addrs.
// Without a local port any will do, or if fresh is set any that nobody has; with one, connections
// to different remotes share it.
func (ps *PortSpace) hold(ctx context.Context, local, remote netip.AddrPort, dev transport.Device, fresh bool) (*endpoint, error) {
	addr := local.Addr()
	for _, own := range dev.Addrs {
		if !addr.IsValid() && own.Unmap().Is4() == remote.Addr().Is4() {
			addr = own.Unmap()
		}
	}
	if local.Port() == 0 && !fresh {
		return ps.sharedPorts(addr, remote).acquire(ctx, remote, dev.Name)
	}
	network, laddr := "tcp6", &net.TCPAddr{Port: int(local.Port())}
	if remote.Addr().Is4() {
		network = "tcp4"
	}
	if addr.IsValid() {
		laddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(addr, local.Port()))
	}
	ps.holding.Lock() // or two that want the same port would each bind
	defer ps.holding.Unlock()
	for _, r := range ps.matching(laddr) {
		switch e, err := r.join(remote); {
		case err == nil:
			return e, nil
		case errors.Is(err, syscall.EADDRINUSE):
			return nil, err
		}
	}
	r, err := ps.bind(ctx, laddr, ps.Control, &Reservation{network: network, owner: dev.Name, spent: true})
	if err != nil {
		return nil, err
	}
	return r.join(remote)
}

func (ps *PortSpace) sharedPorts(local netip.Addr, remote netip.AddrPort) *sharedPorts {
	key := sharedKey{local: local}
	if !local.IsValid() {
		key.local = netip.IPv6Unspecified()
		if remote.Addr().Is4() {
			key.local = netip.IPv4Unspecified()
		}
	}
	key.netns, _ = bound.CurrentNetns() // what cannot be found out shows when the port is bound
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.shared == nil {
		ps.shared = make(map[sharedKey]*sharedPorts)
	}
	if ps.shared[key] == nil {
		ps.shared[key] = &sharedPorts{space: ps, local: local}
	}
	return ps.shared[key]
}

func (ps *PortSpace) add(r *Reservation) *Reservation {
	r.whenGone(func() { ps.remove(r) })
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.held == nil {
		ps.held = make(map[int][]*Reservation)
	}
	// What listened or was connected on the port may be closed by now.
	list := slices.DeleteFunc(ps.held[r.addr.Port], func(r *Reservation) bool { return r.gone() })
	ps.held[r.addr.Port] = append(list, r)
	return r
}

// remove makes sure that nobody finds r any more.
func (ps *PortSpace) remove(r *Reservation) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	list := ps.held[r.addr.Port]
	if i := slices.Index(list, r); i >= 0 {
		list = slices.Delete(list, i, i+1)
	}
	if len(list) == 0 {
		delete(ps.held, r.addr.Port)
		return
	}
	ps.held[r.addr.Port] = list
}

// matching returns the reservations of a in the caller's network namespace, whatever their state
// and interface.
func (ps *PortSpace) matching(a net.Addr) []*Reservation {
	return ps.find(a, func(b bound.Binding, t *net.TCPAddr) int {
		if netaddr.IsWildcard(t.IP) && b.Addr.IsUnspecified() {
			return 1
		}
		own, _ := netip.AddrFromSlice(t.IP)
		if b.Addr == own.Unmap() {
			return 1
		}
		return 0
	})
}

// find returns the reservations of the port of a that fit, those that do best first.
func (ps *PortSpace) find(a net.Addr, fits func(bound.Binding, *net.TCPAddr) int) []*Reservation {
	t, ok := a.(*net.TCPAddr)
	if !ok || t == nil || t.Port == 0 {
		return nil
	}
	ps.mu.Lock()
	list := slices.Clone(ps.held[t.Port])
	ps.mu.Unlock()
	if len(list) == 0 {
		return nil
	}
	netns, err := bound.CurrentNetns()
	zone := netaddr.ZoneIndex(t.Zone)
	how := make(map[*Reservation]int)
	list = slices.DeleteFunc(list, func(r *Reservation) bool {
		how[r] = fits(r.at, t)
		return err != nil || r.at.Netns != netns || how[r] == 0 || zone != 0 && r.at.Device != zone
	})
	slices.SortStableFunc(list, func(a, b *Reservation) int { return how[b] - how[a] })
	return list
}

// toDial returns the reservation of a that a connection of the network is to be made of, if there
// is one.
func (ps *PortSpace) toDial(network string, a net.Addr, control bound.Control) (*Reservation, error) {
	list := slices.DeleteFunc(ps.matching(a), func(r *Reservation) bool { return !r.usable(false) || !r.suits(network) })
	return choose(list, a, control)
}

// suits reports whether connections of the network can be made.
func (r *Reservation) suits(network string) bool {
	switch network {
	case "tcp4":
		return r.at.Reaches(netip.IPv4Unspecified())
	case "tcp6":
		return r.at.Reaches(netip.IPv6Unspecified())
	}
	return true
}

// toListen returns the reservation that a listener of the network and address is to be made of, if
// there is one.
func (ps *PortSpace) toListen(network string, a net.Addr, control bound.Control) (*Reservation, error) {
	list := ps.find(a, func(b bound.Binding, t *net.TCPAddr) int { return b.Fits(network, t.IP, bound.OneFamily) })
	list = slices.DeleteFunc(list, func(r *Reservation) bool { return !r.usable(true) })
	return choose(list, a, control)
}

// choose returns the first reservation that is on the interface that the control function binds to,
// or on none if it does not.
func choose(list []*Reservation, a net.Addr, control bound.Control) (*Reservation, error) {
	var device uint32
	if control != nil && slices.ContainsFunc(list, (*Reservation).onDevice) {
		family := "tcp6"
		if list[0].at.Addr.Is4() {
			family = "tcp4"
		}
		var err error
		if device, err = bound.DeviceOf(family, a.String(), control); err != nil {
			return nil, err
		}
	}
	for _, r := range list {
		if !r.onDevice() && device == 0 || r.onDevice() && r.at.Device == device {
			return r, nil
		}
	}
	return nil, nil
}

// onDevice reports whether the socket is bound to an interface that its address does not tell.
func (r *Reservation) onDevice() bool {
	return r.at.Device != 0 && !r.at.Addr.IsLinkLocalUnicast()
}
