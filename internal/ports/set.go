package ports

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

	"github.com/rdmanet/iwarp/internal/bound"
	"github.com/rdmanet/iwarp/internal/netaddr"
	"github.com/rdmanet/iwarp/internal/neterr"
)

// A Set is one port that is held on several addresses by a Reservation each.
type Set struct {
	space   *Space
	control func() bound.Control // that applies when a socket is bound
	port    uint16
	all     bool // of the host's addresses

	mu        sync.Mutex
	members   []*Reservation
	taking    map[netip.Addr]chan struct{} // by an Extend under way, which closes it
	conflicts map[netip.Addr]error
	released  bool
	done      chan struct{}
}

// setTries bounds the search for a port that is free on all addresses.
const setTries = 16

// ReserveEach takes the port on each of the addresses, or of the host if there are none, or on
// none. The error for a port that could not be had on all holds a *ConflictError.
func (sp *Space) ReserveEach(ctx context.Context, port uint16, addrs []netip.Addr, control func() bound.Control) (*Set, error) {
	s := &Set{space: sp, control: control, all: len(addrs) == 0, done: make(chan struct{})}
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
		err := s.takeEach(ctx, port, addrs)
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
	sp.mu.Lock()
	defer sp.mu.Unlock()
	sp.sets = append(sp.sets, s)
	return s, nil
}

// takeEach holds the port on all addresses or none.
func (s *Set) takeEach(ctx context.Context, port uint16, addrs []netip.Addr) (err error) {
	s.port = port
	complete := false
	defer func() {
		if !complete {
			for _, r := range slices.Clone(s.members) {
				_ = r.Release()
			}
		}
	}()
	none := error(&net.OpError{Op: "reserve", Net: "tcp", Err: os.NewSyscallError("bind", syscall.EADDRNOTAVAIL)})
	for _, a := range addrs {
		r, err := s.space.reserve(ctx, netaddr.Network(a), s.at(a), s.control())
		if s.all && notHere(err) {
			none = err
			continue
		}
		if err != nil {
			return err
		}
		s.port = uint16(r.addr.Port)
		s.adopt(r)
	}
	if len(s.members) == 0 {
		return none
	}
	complete = true
	return nil
}

// notHere reports whether an address of the host is one that no socket can have: it went away, is
// not ready yet (RFC 4862 §5.4), or is of a family that a sandbox forbids.
func notHere(err error) bool {
	return errors.Is(err, syscall.EADDRNOTAVAIL) || neterr.NoFamily(err)
}

func (s *Set) adopt(r *Reservation) {
	r.whenGone(func() { s.forget(r) })
	s.mu.Lock()
	defer s.mu.Unlock()
	s.members = append(s.members, r)
}

func (s *Set) forget(r *Reservation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.members, r); i >= 0 {
		s.members = slices.Delete(s.members, i, i+1)
	}
}

// Port returns the port.
func (s *Set) Port() uint16 { return s.port }

// Members returns the reservations, in the order in which the addresses were taken.
func (s *Set) Members() []*Reservation {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.prune()
	return slices.Clone(s.members)
}

// prune drops the members that have been closed by their users. Its caller holds s.mu.
func (s *Set) prune() {
	s.members = slices.DeleteFunc(s.members, (*Reservation).gone)
}

// Conflicts returns the addresses that the set should have but does not, with the reasons.
func (s *Set) Conflicts() map[netip.Addr]error {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make(map[netip.Addr]error, len(s.conflicts))
	maps.Copy(list, s.conflicts)
	return list
}

// Extend takes the port on another address, or returns the member that has it.
func (s *Set) Extend(ctx context.Context, addr netip.Addr) (*Reservation, error) {
	addr = netaddr.Canonical(addr)
	r, err := s.begin(ctx, addr)
	if err != nil {
		return nil, &net.OpError{Op: "reserve", Net: "tcp", Err: err}
	}
	if r != nil {
		return r, nil
	}
	r, err = s.space.reserve(ctx, netaddr.Network(addr), s.at(addr), s.control())
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
func (s *Set) begin(ctx context.Context, addr netip.Addr) (*Reservation, error) {
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

// tryBegin is begin, unless another Extend is taking addr: then it returns what is closed when that
// is over.
func (s *Set) tryBegin(addr netip.Addr) (r *Reservation, other <-chan struct{}, err error) {
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

// end records what came of taking addr, and reports whether the set was released meanwhile.
func (s *Set) end(addr netip.Addr, err error) (released bool) {
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
func (s *Set) note(addr netip.Addr, err error) {
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
	return netaddr.Canonical(r.AddrPort().Addr()) == a || r.at.Addr.IsUnspecified() && r.at.Reaches(a)
}

// at is the port on an address.
func (s *Set) at(a netip.Addr) *net.TCPAddr {
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

// Release gives back what the members hold.
func (s *Set) Release() error {
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
	s.space.sets = slices.DeleteFunc(s.space.sets, func(t *Set) bool { return t == s })
	s.space.mu.Unlock()
	for _, r := range members {
		_ = r.Release()
	}
	return nil
}
