package ports

import (
	"container/heap"
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"

	"github.com/rdmanet/iwarp/internal/bound"
	"github.com/rdmanet/iwarp/internal/netaddr"
)

// sharedPorts chooses the local ports of a device's connections on one local address. Connections
// to different remotes share a port, so the number of sockets that hold ports is the largest number
// of connections to any one remote address and port, not the number of connections.
type sharedPorts struct {
	space *Space
	key   sharedKey
	local netip.Addr
	users int // calls of Hold under way; the Space's mu guards it

	mu      sync.Mutex
	slots   []*Reservation             // nil where no port is held
	remotes map[netip.AddrPort]*places // by destination
}

// places are the slots that the connections to one remote have: all below next but for those in
// free.
type places struct {
	next int
	free intHeap
	used int
}

// acquire gives a connection to remote a port in the lowest slot that no other connection to remote
// uses.
func (p *sharedPorts) acquire(ctx context.Context, remote netip.AddrPort, owner string, control bound.Control) (_ *Endpoint, err error) {
	slot := p.place(remote)
	taken := false
	defer func() {
		if !taken {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.displace(remote, slot)
		}
	}()
	for {
		if e := p.join(remote, slot); e != nil {
			taken = true
			return e, nil
		}
		laddr := &net.TCPAddr{}
		if p.local.IsValid() {
			laddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(p.local, 0))
		}
		r, err := p.space.bind(ctx, laddr, control, &Reservation{network: netaddr.Network(remote.Addr()), owner: owner, spent: true})
		if err != nil {
			return nil, err
		}
		p.fill(slot, r)
	}
}

func (p *sharedPorts) place(remote netip.AddrPort) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.remotes == nil {
		p.remotes = make(map[netip.AddrPort]*places)
	}
	t := p.remotes[remote]
	if t == nil {
		t = &places{}
		p.remotes[remote] = t
	}
	t.used++
	if len(t.free) > 0 {
		return heap.Pop(&t.free).(int)
	}
	t.next++
	return t.next - 1
}

// displace undoes a place. Its caller holds p.mu.
func (p *sharedPorts) displace(remote netip.AddrPort, slot int) {
	t := p.remotes[remote]
	heap.Push(&t.free, slot)
	if t.used--; t.used == 0 {
		delete(p.remotes, remote)
	}
}

func (p *sharedPorts) join(remote netip.AddrPort, slot int) *Endpoint {
	p.mu.Lock()
	defer p.mu.Unlock()
	if slot >= len(p.slots) || p.slots[slot] == nil {
		return nil
	}
	e, err := p.slots[slot].join(remote)
	if err != nil {
		p.slots[slot] = nil
		return nil
	}
	e.part = func(again bool) { p.leave(e, slot, again) }
	return e
}

// fill puts r into an empty slot. The port of a reservation that comes too late is given back.
func (p *sharedPorts) fill(slot int, r *Reservation) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.slots) <= slot {
		p.slots = append(p.slots, nil)
	}
	if p.slots[slot] != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		_ = r.settle()
		return
	}
	p.slots[slot] = r
}

func (p *sharedPorts) leave(e *Endpoint, slot int, again bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.displace(e.remote, slot)
	switch {
	case again && p.has(slot, e.port):
		p.keep(e.port, slot)
	case !again && e.mayGoAgain():
		p.abandon(e.port, slot) // the peer may still have the connection
	}
	e.port.part(e.remote)
	p.vacate(slot, e.port)
	p.forgo()
}

// forgo drops p from its Space if it is of no use there. The caller holds p.mu.
func (p *sharedPorts) forgo() {
	if len(p.remotes) > 0 || slices.ContainsFunc(p.slots, func(r *Reservation) bool { return r != nil }) {
		return
	}
	p.space.mu.Lock()
	defer p.space.mu.Unlock()
	if p.users == 0 && p.space.shared[p.key] == p {
		delete(p.space.shared, p.key)
	}
}

// leaveSpace ends the use that Space.sharedPorts began.
func (p *sharedPorts) leaveSpace() {
	p.space.mu.Lock()
	p.users--
	p.space.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forgo()
}

// vacate empties the slot of r if that has no port any more. The caller holds p.mu.
func (p *sharedPorts) vacate(slot int, r *Reservation) {
	if !r.holds() {
		p.empty(slot, r)
	}
}

// empty takes r out of its slot. The caller holds p.mu.
func (p *sharedPorts) empty(slot int, r *Reservation) {
	if !p.has(slot, r) {
		return
	}
	p.slots[slot] = nil
	for n := len(p.slots); n > 0 && p.slots[n-1] == nil; n-- {
		p.slots = p.slots[:n-1]
	}
}

func (p *sharedPorts) has(slot int, r *Reservation) bool {
	return slot < len(p.slots) && p.slots[slot] == r
}

type intHeap []int

func (h intHeap) Len() int           { return len(h) }
func (h intHeap) Less(i, j int) bool { return h[i] < h[j] }
func (h intHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *intHeap) Push(x any)        { *h = append(*h, x.(int)) }
func (h *intHeap) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}
