package iwarp

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
	"weak"

	"github.com/rdmanet/iwarp/internal/netaddr"
	"github.com/rdmanet/iwarp/internal/statpage"
	"github.com/rdmanet/iwarp/rdmanet"
	"github.com/rdmanet/iwarp/transport"
)

// peerShares bounds what each peer has of a listener.
type peerShares struct {
	most, rate int // connections at once, and new ones in a second; 0 or less for no limit

	mu      sync.Mutex
	peers   map[netip.Prefix]*peerShare
	sweepAt int // with so many peers, those are forgotten of which nothing is to be known
}

const (
	// leastSwept is how many peers there may be before that is worth the time, and leastLooked how
	// many places of a peer before it is to look which are free.
	leastSwept  = 64
	leastLooked = 8
	// lookPause is for how long a peer's places are not looked at again once all were taken, for each
	// place: some ten times what the look takes, so that refusals cost little however many there are.
	lookPause = 500 * time.Nanosecond
)

// A peerShare is what one peer has.
type peerShare struct {
	held    []*place  // at least those that are taken
	lookAt  int       // with so many, those are forgotten that are free
	lookNot time.Time // none is free until then, as far as is known
	due     time.Time // until when the connections so far would have taken at the rate
}

// A place is what a connection has of its peer's share. It does not keep the connection from
// becoming garbage. The lock of the peerShares guards it.
type place struct {
	setUp  bool                       // an iWARP connection is being made
	tcp    weak.Pointer[net.TCPConn]  // before that, or if none is
	stream weak.Pointer[rdmanet.Conn] // that was made
}

// taken reports whether the program may still use the connection, or get it.
func (p *place) taken() bool {
	if p.setUp {
		return true
	}
	if c := p.stream.Value(); c != nil {
		return !statpage.StreamClosed(c)
	}
	c := p.tcp.Value()
	if c == nil {
		return false
	}
	rc, err := c.SyscallConn()
	return err == nil && rc.Control(func(uintptr) {}) == nil
}

func (s *peerShares) limits() bool { return s.most > 0 || s.rate > 0 }

// take counts a connection of a peer, and reports whether the peer may have it.
func (s *peerShares) take(peer netip.Addr, h *place, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.of(peer, now)
	due, ok := p.inTime(s.rate, now)
	if !ok || !p.hasRoom(s.most, now) {
		return false
	}
	p.due = due
	if s.most > 0 {
		p.held = append(p.held, h)
	}
	return true
}

// setUp records that an iWARP connection is being made. h may be nil.
func (s *peerShares) setUp(h *place) {
	if h != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		h.setUp = true
	}
}

// made records what became of that: c, or nothing if c is nil, so that the place is free. h may be
// nil.
func (s *peerShares) made(h *place, c *rdmanet.Conn) {
	if h != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		*h = place{stream: weak.Make(c)}
	}
}

// of returns the share of a peer. Its caller holds s.mu.
func (s *peerShares) of(peer netip.Addr, now time.Time) *peerShare {
	key := onePeer(peer)
	if p := s.peers[key]; p != nil {
		return p
	}
	if len(s.peers) >= max(s.sweepAt, leastSwept) {
		for key, p := range s.peers {
			if !p.due.After(now) && !slices.ContainsFunc(p.held, (*place).taken) {
				delete(s.peers, key)
			}
		}
		s.sweepAt = 2 * len(s.peers)
	}
	if s.peers == nil {
		s.peers = make(map[netip.Prefix]*peerShare)
	}
	p := new(peerShare)
	s.peers[key] = p
	return p
}

// nat64 has the address of an IPv4 host in its last bits (RFC 6052 §2.1).
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

// onePeer returns the addresses that count as one peer with a: in IPv6, those of its network, as
// every host may have as many as it likes of them.
func onePeer(a netip.Addr) netip.Prefix {
	a = a.Unmap()
	bits := a.BitLen()
	if a.Is6() && !a.IsLinkLocalUnicast() && !nat64.Contains(a) {
		bits = 64
	}
	p, _ := a.WithZone("").Prefix(bits)
	return p
}

// hasRoom reports whether fewer than most places are taken, if there is such a limit.
func (p *peerShare) hasRoom(most int, now time.Time) bool {
	if most <= 0 {
		return true
	}
	if len(p.held) >= min(most, max(p.lookAt, leastLooked)) && !now.Before(p.lookNot) {
		p.held = slices.DeleteFunc(p.held, func(h *place) bool { return !h.taken() })
		if p.lookAt = 2 * len(p.held); cap(p.held) > 2*max(p.lookAt, leastLooked) {
			p.held = slices.Clone(p.held)
		}
		p.lookNot = time.Time{}
		if len(p.held) >= most {
			p.lookNot = now.Add(lookPause * time.Duration(most))
		}
	}
	return len(p.held) < most
}

// inTime returns until when the connections take with one that comes now, and whether the rate
// allows it, if there is one.
func (p *peerShare) inTime(rate int, now time.Time) (due time.Time, ok bool) {
	if rate <= 0 {
		return p.due, true
	}
	if due = p.due; due.Before(now) {
		due = now
	}
	due = due.Add(time.Second / time.Duration(rate))
	return due, due.Sub(now) <= time.Second
}

// hasShare counts a client of the kernel, and reports whether its peer may have it. The place is
// nil if there is no limit.
func (l *Listener) hasShare(c *net.TCPConn) (h *place, ok bool) {
	if !l.sharing.limits() {
		return nil, true
	}
	return l.share(netaddr.Of(c.LocalAddr()), netaddr.Of(c.RemoteAddr()), &place{tcp: weak.Make(c)})
}

// hasDeviceShare does the same for a device's client.
func (l *Listener) hasDeviceShare(q transport.QueuePair) (h *place, ok bool) {
	if !l.sharing.limits() {
		return nil, true
	}
	return l.share(q.LocalAddr(), netaddr.Unmap(q.RemoteAddr()), &place{setUp: true})
}

func (l *Listener) share(local, remote netip.AddrPort, h *place) (*place, bool) {
	if l.sharing.take(remote.Addr(), h, time.Now()) {
		return h, true
	}
	l.counters.limited.Add(1)
	l.logSurplus(local, remote)
	return nil, false
}
