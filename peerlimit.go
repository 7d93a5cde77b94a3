package iwarp

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"github.com/rdmanet/iwarp/internal/netaddr"
)

// peerShares bounds what each peer has of a listener.
type peerShares struct {
	most, rate int // connections at once, and new ones in a second; 0 or less for no limit

	mu      sync.Mutex
	peers   map[netip.Prefix]*peerShare
	sweepAt int // with so many peers, those are forgotten of which nothing is to be known
}

// leastSwept is how many peers there may be before that is worth the time.
const leastSwept = 64

// A peerShare is what one peer has.
type peerShare struct {
	held []held    // at least those that are open
	due  time.Time // until when the connections so far would have taken at the rate
}

// A held connection is one that was taken. It does not keep the connection from becoming garbage.
type held interface{ open() bool }

func (s *peerShares) limits() bool { return s.most > 0 || s.rate > 0 }

// take counts a connection of a peer, and reports whether the peer may have it.
func (s *peerShares) take(peer netip.Addr, h held, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.of(peer, now)
	if s.most > 0 && len(p.held) >= s.most {
		if p.look(); len(p.held) >= s.most {
			return false
		}
	}
	if s.rate > 0 && !p.inTime(s.rate, now) {
		return false
	}
	if s.most > 0 {
		p.held = append(p.held, h)
	}
	return true
}

// of returns the share of a peer. Its caller holds s.mu.
func (s *peerShares) of(peer netip.Addr, now time.Time) *peerShare {
	key := onePeer(peer)
	if p := s.peers[key]; p != nil {
		return p
	}
	if len(s.peers) >= max(s.sweepAt, leastSwept) {
		for key, p := range s.peers {
			if p.look(); len(p.held) == 0 && !p.due.After(now) {
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

// onePeer returns the addresses that count as one peer with a: in IPv6, those of its network, as
// every host may have as many as it likes of them.
func onePeer(a netip.Addr) netip.Prefix {
	a = a.Unmap()
	bits := a.BitLen()
	if a.Is6() && !a.IsLinkLocalUnicast() {
		bits = 64
	}
	p, _ := a.WithZone("").Prefix(bits)
	return p
}

// look forgets what is closed.
func (p *peerShare) look() {
	p.held = slices.DeleteFunc(p.held, func(h held) bool { return !h.open() })
}

// inTime counts a connection that comes now, and reports whether the rate allows it.
func (p *peerShare) inTime(rate int, now time.Time) bool {
	each := time.Second / time.Duration(rate)
	due := p.due
	if due.Before(now) {
		due = now
	}
	if due = due.Add(each); due.Sub(now) > time.Second {
		return false
	}
	p.due = due
	return true
}

// heldTCP is a connection of the kernel, whatever is made of it.
type heldTCP struct{ weak.Pointer[net.TCPConn] }

func (h heldTCP) open() bool {
	c := h.Value()
	if c == nil {
		return false
	}
	rc, err := c.SyscallConn()
	return err == nil && rc.Control(func(uintptr) {}) == nil
}

// heldQP is a queue pair of a device.
type heldQP struct{ closed atomic.Bool }

func (h *heldQP) open() bool { return !h.closed.Load() }

// hasShare counts a client of the kernel, and reports whether its peer may have it.
func (l *Listener) hasShare(c *net.TCPConn) bool {
	return !l.sharing.limits() || l.mayHave(netaddr.Of(c.RemoteAddr()).Addr(), heldTCP{weak.Make(c)})
}

// hasDeviceShare does the same for a device's client.
func (l *Listener) hasDeviceShare(q *deviceQP) bool {
	if !l.sharing.limits() {
		return true
	}
	q.place = new(heldQP)
	return l.mayHave(q.RemoteAddr().Addr(), q.place)
}

func (l *Listener) mayHave(peer netip.Addr, h held) bool {
	ok := l.sharing.take(peer, h, time.Now())
	if !ok {
		l.counters.limited.Add(1)
	}
	return ok
}
