package ports

import (
	"slices"
	"time"
)

const (
	// keepTime is how long a port is kept for the next connection, and up to twice that.
	keepTime  = 100 * time.Millisecond
	mostPorts = 64 // that are kept
)

// keptPorts are those that nobody uses, or did not a moment ago, and that are kept for the next
// connection to the same remote: to make a socket and to bind it takes longer than much else about
// a connection.
type keptPorts struct {
	m     map[*Reservation]keptPort
	timer *time.Timer
	armed bool
}

type keptPort struct {
	of    *sharedPorts
	slot  int
	until time.Time
}

// keep holds the port of r, which is in the slot, for a while. The caller holds p.mu.
func (p *sharedPorts) keep(r *Reservation, slot int) {
	sp := p.space
	sp.mu.Lock()
	k := &sp.kept
	if k.m == nil {
		k.m = make(map[*Reservation]keptPort)
	}
	_, again := k.m[r]
	ok := again || len(k.m) < mostPorts
	if ok {
		k.m[r] = keptPort{p, slot, time.Now().Add(keepTime)}
		k.arm(sp)
	}
	sp.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kept = ok && !r.lost
}

// abandon keeps r for nobody, and has nobody join it. The caller holds p.mu.
func (p *sharedPorts) abandon(r *Reservation, slot int) {
	p.space.mu.Lock()
	delete(p.space.kept.m, r)
	p.space.mu.Unlock()
	r.mu.Lock()
	r.kept = false
	r.mu.Unlock()
	p.empty(slot, r)
}

// arm makes sure that there is a sweep. The caller holds the Space's mu.
func (k *keptPorts) arm(sp *Space) {
	switch {
	case k.armed:
		return
	case k.timer == nil:
		k.timer = time.AfterFunc(keepTime, sp.sweep)
	default:
		k.timer.Reset(keepTime)
	}
	k.armed = true
}

// sweep gives back what was kept for long enough.
func (sp *Space) sweep() {
	now := time.Now()
	sp.mu.Lock()
	sp.kept.armed = false
	sp.mu.Unlock()
	sp.drop(func(_ *Reservation, k keptPort) bool { return !now.Before(k.until) })
}

// forget gives back what is kept of a port, or of all if port is 0, by this package and by devices.
// It reports whether there was something.
func (sp *Space) forget(port int) bool {
	some := false
	for _, forgo := range sp.forgoers(port) {
		some = forgo() || some
	}
	return sp.drop(func(r *Reservation, _ keptPort) bool { return port == 0 || r.addr.Port == port }) || some
}

func (sp *Space) forgoers(port int) (list []func() bool) {
	sp.mu.Lock()
	all := slices.Clone(sp.held[port])
	if port == 0 {
		for _, l := range sp.held {
			all = append(all, l...)
		}
	}
	sp.mu.Unlock()
	for _, r := range all {
		r.mu.Lock()
		for _, forgo := range r.remotes {
			if forgo != nil {
				list = append(list, forgo)
			}
		}
		r.mu.Unlock()
	}
	return list
}

func (sp *Space) drop(of func(*Reservation, keptPort) bool) bool {
	var gone map[*Reservation]keptPort
	sp.mu.Lock()
	for r, k := range sp.kept.m {
		if of(r, k) {
			if gone == nil {
				gone = make(map[*Reservation]keptPort)
			}
			gone[r] = k
			delete(sp.kept.m, r)
		}
	}
	if len(sp.kept.m) > 0 {
		sp.kept.arm(sp)
	}
	sp.mu.Unlock()
	for r, k := range gone {
		k.of.give(r, k.slot)
	}
	return len(gone) > 0
}

// give keeps r no longer.
func (p *sharedPorts) give(r *Reservation, slot int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r.mu.Lock()
	r.kept = false
	_ = r.settle()
	r.mu.Unlock()
	p.vacate(slot, r)
	p.forgo()
}
