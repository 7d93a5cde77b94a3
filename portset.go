package iwarp

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"

	"github.com/rdmanet/iwarp/internal/netaddr"
	"github.com/rdmanet/iwarp/internal/neterr"
)

// A PortSet is one port that is held on several addresses of the host by a Reservation each, where
// a wildcard would take too much: for devices that have some of the addresses only. The methods may
// be called from several goroutines at once.
type PortSet struct {
	space *PortSpace
	port  uint16
	all   bool // of the host's addresses

	mu        sync.Mutex
	members   []*Reservation
	taking    map[netip.Addr]chan struct{} // by an Extend under way, which closes it
	conflicts map[netip.Addr]error
	released  bool
	done      chan struct{}
}

// setTries bounds the search for a port that is free on all addresses.
const setTries = 16

// ReserveEach takes the port on each of the addresses, by a socket for each, or on none. Without
// addresses it takes it on all that the host's interfaces have now. Port 0 is any port that is free
// on all of them: it is chosen on the first address and tried on the others, and after a conflict
// another one is, up to 16 times. The error holds a *ConflictError with the address that refused
// last and the number of tries.
//
// One reservation of a wildcard address, as by Reserve(ctx, "tcp", ":0"), does more in one step: it
// holds for the addresses that the host will have as well.
func (ps *PortSpace) ReserveEach(ctx context.Context, port uint16, addrs ...netip.Addr) (*PortSet, error) {
	ps = ps.or()
	s := &PortSet{space: ps, all: len(addrs) == 0, done: make(chan struct{})}
	addrs = distinct(addrs)
	if s.all {
		var err error
		if addrs, err = netaddr.OfHost(); err != nil {
			return nil, &net.OpError{Op: "reserve", Net: "tcp", Err: err}
		}
	}
	for try := 1; ; try++ {
		if err := ctx.Err(); err != nil {
			return nil, &net.OpError{Op: "reserve", Net: "tcp", Err: neterr.OfContext(err)}
		}
		err := s.take(ctx, port, addrs)
		if err == nil {
			break
		}
		var c *ConflictError
		if !errors.As(err, &c) || port != 0 {
			return nil, err
		}
		if try == setTries {
			c.Tries = try
			return nil, err
		}
	}
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.sets = append(ps.sets, s)
	return s, nil
}

// take holds the port on all addresses or none.
func (s *PortSet) take(ctx context.Context, port uint16, addrs []netip.Addr) (err error) {
	s.port = port
	complete := false
	defer func() {
		if !complete {
			for _, r := range slices.Clone(s.members) {
				_ = r.Release()
			}
		}
	}()
	for _, a := range addrs {
		r, err := s.space.reserve(ctx, netaddr.Network(a), s.at(a))
		if s.all && errors.Is(err, syscall.EADDRNOTAVAIL) {
			continue // it went away, or is not ready yet (RFC 4862 §5.4)
		}
		if err != nil {
			return err
		}
		s.port = uint16(r.addr.Port)
		s.adopt(r)
	}
	if len(s.members) == 0 {
		return &net.OpError{Op: "reserve", Net: "tcp", Err: os.NewSyscallError("bind", syscall.EADDRNOTAVAIL)}
	}
	complete = true
	return nil
}

func (s *PortSet) adopt(r *Reservation) {
	r.whenGone(func() { s.forget(r) })
	s.mu.Lock()
	defer s.mu.Unlock()
	s.members = append(s.members, r)
}

func (s *PortSet) forget(r *Reservation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.members, r); i >= 0 {
		s.members = slices.Delete(s.members, i, i+1)
	}
}

// Port returns the port.
func (s *PortSet) Port() uint16 { return s.port }

// Members returns the reservations, in the order in which the addresses were taken. A member can be
// listened on, dialed from and released as any Reservation; it leaves the set when its port is
// given back, as when its listener is closed.
func (s *PortSet) Members() []*Reservation {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.prune()
	return slices.Clone(s.members)
}

// prune drops the members that have been closed by their users. Its caller holds s.mu.
func (s *PortSet) prune() {
	s.members = slices.DeleteFunc(s.members, (*Reservation).gone)
}

// Conflicts returns the addresses that the set should have and does not, with the reasons: an error
// that holds a *ConflictError where somebody else has the port.
func (s *PortSet) Conflicts() map[netip.Addr]error {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make(map[netip.Addr]error, len(s.conflicts))
	maps.Copy(list, s.conflicts)
	return list
}

// Extend takes the port on another address. If somebody else has it there, the error holds a
// *ConflictError and the address is noted in Conflicts. An address that the set has, also by a
// wildcard, is no error: its member is returned.
func (s *PortSet) Extend(ctx context.Context, addr netip.Addr) (*Reservation, error) {
	addr = netaddr.Canonical(addr)
	r, err := s.begin(ctx, addr)
	if err != nil {
		return nil, &net.OpError{Op: "reserve", Net: "tcp", Err: err}
	}
	if r != nil {
		return r, nil
	}
	r, err = s.space.reserve(ctx, netaddr.Network(addr), s.at(addr))
	if err == nil {
		s.adopt(r)
	}
	if s.end(addr, err) && err == nil {
		_ = r.Release()
		return nil, &net.OpError{Op: "reserve", Net: "tcp", Err: net.ErrClosed}
	}
	return r, err
}

// begin returns the member that has addr. Without one it returns nil, and the address is the
// caller's to take until it calls end.
func (s *PortSet) begin(ctx context.Context, addr netip.Addr) (*Reservation, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, neterr.OfContext(err)
		}
		r, other, err := s.tryBegin(addr)
		if other == nil {
			return r, err
		}
		select {
		case <-other:
		case <-ctx.Done():
		}
	}
}

// tryBegin is begin, unless another Extend is at it: then it returns what tells when that is over.
func (s *PortSet) tryBegin(addr netip.Addr) (r *Reservation, other <-chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.prune()
	if s.released {
		return nil, nil, net.ErrClosed
	}
	for _, r := range s.members {
		if r.has(addr) {
			return r, nil, nil
		}
	}
	if t := s.taking[addr]; t != nil {
		return nil, t, nil
	}
	if s.taking == nil {
		s.taking = make(map[netip.Addr]chan struct{})
	}
	s.taking[addr] = make(chan struct{})
	return nil, nil, nil
}

// end notes what came of taking addr, and reports whether the set was released meanwhile.
func (s *PortSet) end(addr netip.Addr, err error) (released bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.taking[addr])
	delete(s.taking, addr)
	own := func(r *Reservation) bool { return addr.IsUnspecified() && r.at.Addr.Is4() == addr.Is4() }
	switch {
	case err == nil:
		delete(s.conflicts, addr)
	case errors.Is(err, syscall.EADDRINUSE) && !slices.ContainsFunc(s.members, own):
		s.note(addr, err)
	}
	return s.released
}

// note remembers why the set does not have addr. Its caller holds s.mu.
func (s *PortSet) note(addr netip.Addr, err error) {
	if s.released {
		return
	}
	if s.conflicts == nil {
		s.conflicts = make(map[netip.Addr]error)
	}
	s.conflicts[addr] = err
}

// has reports whether the reservation holds the port on a, which is canonical.
func (r *Reservation) has(a netip.Addr) bool {
	return netaddr.Canonical(r.addrPort().Addr()) == a || r.at.Addr.IsUnspecified() && r.at.Reaches(a)
}

// at is the port on an address.
func (s *PortSet) at(a netip.Addr) *net.TCPAddr {
	return &net.TCPAddr{IP: a.AsSlice(), Zone: a.Zone(), Port: int(s.port)}
}

// distinct returns each address once, without those that a wildcard among them covers.
func distinct(addrs []netip.Addr) (list []netip.Addr) {
	for _, a := range addrs {
		if a = netaddr.Canonical(a); !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	for _, wildcard := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		if slices.Contains(list, wildcard) {
			list = slices.DeleteFunc(list, func(a netip.Addr) bool { return a != wildcard && a.Is4() == wildcard.Is4() })
		}
	}
	return list
}

// Release gives back what the members hold. Members that listen or are connected are their users'
// business. A second call returns net.ErrClosed.
func (s *PortSet) Release() error {
	s.mu.Lock()
	if s.released {
		s.mu.Unlock()
		return &net.OpError{Op: "release", Net: "tcp", Err: net.ErrClosed}
	}
	s.released = true
	close(s.done)
	members := slices.Clone(s.members)
	clear(s.conflicts)
	s.mu.Unlock()
	s.space.mu.Lock()
	s.space.sets = slices.DeleteFunc(s.space.sets, func(t *PortSet) bool { return t == s })
	s.space.mu.Unlock()
	for _, r := range members {
		_ = r.Release()
	}
	return nil
}
