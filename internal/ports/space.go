package ports

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
	"github.com/rdmanet/iwarp/internal/netns"
)

// A Space knows the ports that are held. The zero value is ready for use.
type Space struct {
	mu      sync.Mutex
	held    map[int][]*Reservation           // all that have a port, by its number
	shared  map[sharedKey]*sharedPorts       // ports of devices' connections
	holding map[netip.AddrPort]chan struct{} // told to a Hold under way, which closes it
	kept    keptPorts
	sets    []*Set
	rest    []inherited // what Inherit left
}

// sharedKey is where devices' connections share ports.
type sharedKey struct {
	local netip.Addr
	netns uint64
}

// Reserve takes the port of address.
func (sp *Space) Reserve(ctx context.Context, network, address string, control bound.Control) (*Reservation, error) {
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
	return sp.reserve(ctx, network, local, control)
}

func (sp *Space) reserve(ctx context.Context, network string, local *net.TCPAddr, control bound.Control) (*Reservation, error) {
	return sp.bind(ctx, local, control, &Reservation{network: network})
}

// bind gives r a socket that has the port of local.
func (sp *Space) bind(ctx context.Context, local *net.TCPAddr, control bound.Control, r *Reservation) (*Reservation, error) {
	use := bound.ToUse
	switch {
	case r.owner == listenerOwner:
		use = bound.ToListen
	case r.spent:
		use = bound.ToHold
	}
	if local.Port != 0 {
		sp.forget(local.Port)
	}
	s, err := bound.Bind(ctx, r.network, local, control, use)
	if neterr.IsLack(err) && sp.forget(0) {
		s, err = bound.Bind(ctx, r.network, local, control, use)
	}
	if err != nil {
		at := netip.AddrPortFrom(s.At().Addr, uint16(local.Port))
		return nil, &net.OpError{Op: "reserve", Net: r.network, Addr: local, Err: conflict(at, s.At(), err)}
	}
	r.socket, r.addr, r.at = s, *s.TCPAddr(), s.At()
	return sp.add(r), nil
}

// Hold takes a share in a local port for a connection to remote from a device, the owner, that
// serves addrs. Without a local port any will do, or if fresh is set any that nobody has; with one,
// connections to different remotes share it.
func (sp *Space) Hold(
	ctx context.Context, local, remote netip.AddrPort, owner string, addrs []netip.Addr, fresh bool, control bound.Control,
) (*Endpoint, error) {
	addr := local.Addr()
	for _, own := range addrs {
		if !addr.IsValid() && own.Unmap().Is4() == remote.Addr().Is4() {
			addr = own.Unmap()
		}
	}
	if local.Port() == 0 && !fresh {
		p := sp.sharedPorts(addr, remote)
		defer p.leaveSpace()
		return p.acquire(ctx, remote, owner, control)
	}
	laddr := &net.TCPAddr{Port: int(local.Port())}
	if addr.IsValid() {
		laddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(addr, local.Port()))
	}
	if local.Port() != 0 {
		sp.forget(int(local.Port()))
		done, err := sp.turn(ctx, laddr) // or two that want the same port would each bind
		if err != nil {
			return nil, &net.OpError{Op: "reserve", Net: netaddr.Network(remote.Addr()), Addr: laddr, Err: err}
		}
		defer done()
	}
	for _, r := range sp.matching(laddr) {
		switch e, err := r.join(remote); {
		case err == nil:
			return e, nil
		case errors.Is(err, syscall.EADDRINUSE):
			return nil, err
		}
	}
	r, err := sp.bind(ctx, laddr, control, &Reservation{network: netaddr.Network(remote.Addr()), owner: owner, spent: true})
	if err != nil {
		return nil, err
	}
	return r.join(remote)
}

// turn waits until no other Hold is about to bind a. That may take as long as a Control function.
func (sp *Space) turn(ctx context.Context, a *net.TCPAddr) (done func(), err error) {
	key := a.AddrPort()
	if netaddr.IsWildcard(a.IP) { // of any family
		key = netip.AddrPortFrom(netip.Addr{}, key.Port())
	}
	for {
		wait := sp.begin(key)
		if wait == nil {
			return func() { sp.end(key) }, nil
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, neterr.OfContext(ctx.Err())
		}
	}
}

// begin returns what is closed at the end of another Hold, or nil if there is none.
func (sp *Space) begin(key netip.AddrPort) (wait <-chan struct{}) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if other := sp.holding[key]; other != nil {
		return other
	}
	if sp.holding == nil {
		sp.holding = make(map[netip.AddrPort]chan struct{})
	}
	sp.holding[key] = make(chan struct{})
	return nil
}

func (sp *Space) end(key netip.AddrPort) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	close(sp.holding[key])
	delete(sp.holding, key)
}

// HoldNew takes a share in a port of the local address that nobody has, for a device, the owner,
// that will listen on it.
func (sp *Space) HoldNew(ctx context.Context, network string, local netip.Addr, owner string, control bound.Control) (*Endpoint, error) {
	laddr := net.TCPAddrFromAddrPort(netip.AddrPortFrom(local, 0))
	r, err := sp.bind(ctx, laddr, control, &Reservation{network: network, owner: owner, spent: true})
	if err != nil {
		return nil, err
	}
	return r.Join()
}

// sharedPorts returns those at local, for which leaveSpace must be called.
func (sp *Space) sharedPorts(local netip.Addr, remote netip.AddrPort) *sharedPorts {
	key := sharedKey{local: local}
	if !local.IsValid() {
		key.local = netip.IPv6Unspecified()
		if remote.Addr().Is4() {
			key.local = netip.IPv4Unspecified()
		}
	}
	if key.netns = netns.Current(); key.netns == 0 {
		key.netns, _ = bound.CurrentNetns() // what cannot be found out shows when the port is bound
	}
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if sp.shared == nil {
		sp.shared = make(map[sharedKey]*sharedPorts)
	}
	if sp.shared[key] == nil {
		sp.shared[key] = &sharedPorts{space: sp, key: key, local: local}
	}
	p := sp.shared[key]
	p.users++
	return p
}

func (sp *Space) add(r *Reservation) *Reservation {
	r.whenGone(func() { sp.remove(r) })
	r.open()
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if sp.held == nil {
		sp.held = make(map[int][]*Reservation)
	}
	// What listened or was connected on the port may be closed by now.
	list := slices.DeleteFunc(sp.held[r.addr.Port], func(r *Reservation) bool { return r.gone() })
	sp.held[r.addr.Port] = append(list, r)
	return r
}

// remove makes sure that nobody finds r any more.
func (sp *Space) remove(r *Reservation) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	list := sp.held[r.addr.Port]
	if i := slices.Index(list, r); i >= 0 {
		list = slices.Delete(list, i, i+1)
	}
	if len(list) == 0 {
		delete(sp.held, r.addr.Port)
		return
	}
	sp.held[r.addr.Port] = list
}

// matching returns the reservations of a in the caller's network namespace, whatever their state
// and interface.
func (sp *Space) matching(a net.Addr) []*Reservation {
	return sp.find(a, func(b bound.Binding, t *net.TCPAddr) int {
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

// find returns the reservations of the port of a that fit, best first.
func (sp *Space) find(a net.Addr, fits func(bound.Binding, *net.TCPAddr) int) []*Reservation {
	t, ok := a.(*net.TCPAddr)
	if !ok || t == nil || t.Port == 0 {
		return nil
	}
	sp.mu.Lock()
	list := slices.Clone(sp.held[t.Port])
	sp.mu.Unlock()
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

// ToDial returns the reservation of a of which to make a connection of the network, if there is
// one.
func (sp *Space) ToDial(network string, a net.Addr, control bound.Control) (*Reservation, error) {
	if t, ok := a.(*net.TCPAddr); ok && t != nil && t.Port != 0 {
		sp.forget(t.Port) // which the kernel may be about to bind
	}
	list := slices.DeleteFunc(sp.matching(a), func(r *Reservation) bool { return !r.usable(false) || !r.suits(network) })
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

// toListen returns the reservation of which to make a listener of the network and address, if there
// is one.
func (sp *Space) toListen(network string, a net.Addr, control bound.Control) (*Reservation, error) {
	list := sp.find(a, func(b bound.Binding, t *net.TCPAddr) int { return b.Fits(network, t.IP, bound.OneFamily) })
	list = slices.DeleteFunc(list, func(r *Reservation) bool { return !r.usable(true) })
	return choose(list, a, control)
}

// choose returns the first reservation on the interface that the control function binds to, or on
// no interface if it binds to none.
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

// onDevice reports whether the socket is bound to an interface that its address does not show.
func (r *Reservation) onDevice() bool {
	return r.at.Device != 0 && !r.at.Addr.IsLinkLocalUnicast()
}

// Control is the type of Control fields.
type Control = bound.Control
