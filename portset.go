package iwarp

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
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
	addrs = slices.Clone(addrs)
	if s.all {
		var err error
		if addrs, err = hostAddrs(); err != nil {
			return nil, &net.OpError{Op: "reserve", Net: "tcp", Err: err}
		}
	}
	for try := 1; ; try++ {
		if err := ctx.Err(); err != nil {
			return nil, &net.OpError{Op: "reserve", Net: "tcp", Err: ctxError(err)}
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
		r, err := s.space.reserve(ctx, networkOf(a), &net.TCPAddr{IP: a.AsSlice(), Zone: a.Zone(), Port: int(s.port)})
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
	r.mu.Lock()
	r.set = s
	r.mu.Unlock()
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
// given back.
func (s *PortSet) Members() []*Reservation {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.members)
}

// Conflicts returns the addresses that the set should have and somebody else has, with errors that
// hold a *ConflictError.
func (s *PortSet) Conflicts() map[netip.Addr]error {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make(map[netip.Addr]error, len(s.conflicts))
	for a, err := range s.conflicts {
		list[a] = err
	}
	return list
}

// Extend takes the port on another address. If it is in use there, the error holds a *ConflictError
// and the address is noted in Conflicts. An address that the set has is no error: its member is
// returned.
func (s *PortSet) Extend(ctx context.Context, addr netip.Addr) (*Reservation, error) {
	if err := ctx.Err(); err != nil {
		return nil, &net.OpError{Op: "reserve", Net: "tcp", Err: ctxError(err)}
	}
	for _, r := range s.Members() {
		if r.addrPort().Addr() == addr.Unmap() {
			return r, nil
		}
	}
	if s.isReleased() {
		return nil, &net.OpError{Op: "reserve", Net: "tcp", Err: net.ErrClosed}
	}
	r, err := s.space.reserve(ctx, networkOf(addr), &net.TCPAddr{IP: addr.AsSlice(), Zone: addr.Zone(), Port: int(s.port)})
	if err != nil {
		if errors.Is(err, syscall.EADDRINUSE) {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.conflicts == nil {
				s.conflicts = make(map[netip.Addr]error)
			}
			s.conflicts[addr.Unmap()] = err
		}
		return nil, err
	}
	s.adopt(r)
	s.mu.Lock()
	delete(s.conflicts, addr.Unmap())
	late := s.released
	s.mu.Unlock()
	if late {
		_ = r.Release()
		return nil, &net.OpError{Op: "reserve", Net: "tcp", Err: net.ErrClosed}
	}
	return r, nil
}

func (s *PortSet) isReleased() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.released
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

func networkOf(a netip.Addr) string {
	if a.Unmap().Is4() {
		return "tcp4"
	}
	return "tcp6"
}
