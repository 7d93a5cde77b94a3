package ports

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/rdmanet/iwarp/internal/bound"
	"github.com/rdmanet/iwarp/internal/statpage"
)

// State says what a port is used for.
type State uint8

// The states of a port.
const (
	Idle State = iota
	Listening
	Connected
	Conflict
)

// Info describes a port.
type Info struct {
	Addr       netip.AddrPort
	State      State
	Owner      string
	References int
	Err        error // why it is not held, for Conflict
}

// Limits says which properties the system does not have.
func Limits() []string { return bound.Limits() }

// Reservations lists the ports that are held, by address.
func (sp *Space) Reservations() []Info {
	sp.mu.Lock()
	var all []*Reservation
	for _, l := range sp.held {
		all = append(all, l...)
	}
	sets := slices.Clone(sp.sets)
	sp.mu.Unlock()
	var list []Info
	for _, r := range all {
		if info, ok := r.info(); ok {
			list = append(list, info)
			continue
		}
		sp.remove(r)
	}
	for _, s := range sets {
		for addr, err := range s.Conflicts() {
			list = append(list, Info{Addr: netip.AddrPortFrom(addr, s.Port()), State: Conflict, Err: err})
		}
	}
	slices.SortFunc(list, func(a, b Info) int {
		return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.State, b.State))
	})
	return list
}

// info returns false if the port is no longer held.
func (r *Reservation) info() (Info, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	info, ok := r.use()
	if !ok {
		r.withdraw()
	}
	return info, ok
}

// use is info for a caller that holds r.mu.
func (r *Reservation) use() (Info, bool) {
	info := Info{Addr: r.AddrPort(), Owner: r.owner, References: r.endpoints}
	switch {
	case r.socket == nil && r.cancel == nil:
		if r.lives == nil || !r.lives() {
			return info, r.endpoints > 0
		}
		info.State = r.became
		info.References++
	case r.cancel != nil || !r.spent && !r.released:
		info.References++
	}
	switch {
	case info.State == Idle && r.socket != nil && (r.listens || r.device):
		info.State = Listening
	case info.State == Idle && r.endpoints > 0:
		info.State = Connected
	}
	return info, true
}

// gone reports whether what the socket became is closed. It does not wait for a reservation that is
// in use.
func (r *Reservation) gone() bool {
	if !r.mu.TryLock() {
		return false
	}
	defer r.mu.Unlock()
	if r.socket != nil || r.cancel != nil || r.endpoints > 0 || r.lives != nil && r.lives() {
		return false
	}
	r.withdraw()
	return true
}

// open gives a reservation that has a port a record for others to see.
func (r *Reservation) open() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.page = statpage.OpenPort(0, &statpage.Traits{Since: time.Now(), Local: r.AddrPort(), Device: r.owner})
	r.publish()
}

// publish records what the port is used for. Its caller holds r.mu.
func (r *Reservation) publish() {
	if r.page == nil {
		return
	}
	if info, ok := r.use(); ok {
		r.page.Show(statpage.State(info.State), info.References)
	}
}

// withdraw takes the record away. Its caller holds r.mu.
func (r *Reservation) withdraw() {
	if r.page != nil {
		r.page.Free()
		r.page = nil
	}
}
