package iwarp

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/rdmanet/iwarp/internal/bound"
)

// PortState says what a reserved port is used for.
type PortState uint8

const (
	PortIdle      PortState = iota // held, and nothing else
	PortListening                  // by a listener
	PortConnected                  // by one connection of the kernel, or any number of devices'
	PortConflict                   // not held on this address, which a PortSet wants: somebody else has it as a rule
)

// String returns the state in a word.
func (s PortState) String() string {
	names := [...]string{"idle", "listening", "connected", "conflict"}
	if int(s) < len(names) {
		return names[s]
	}
	return "unknown"
}

// PortInfo describes a port that a PortSpace has.
type PortInfo struct {
	Addr       netip.AddrPort // the address is unspecified for a wildcard, IPv6's for one of both families
	State      PortState
	Owner      string // the device, devices or listener that the port is held for, or the name that a port was inherited under
	References int    // what keeps the port: the reservation, or its listener or connection, and each connection of a device
	Err        error  // why it is not held, for PortConflict
}

// Limits tells in sentences which properties of docs/portspace.md the running system does not have,
// as found out by trying. It is empty where all is as described.
func (ps *PortSpace) Limits() []string { return bound.Limits() }

// Reservations lists the ports that are held now, by address. Ports of connections for which the
// kernel chose, and needs no help to hold, are not among them; Holders lists those too.
func (ps *PortSpace) Reservations() []PortInfo {
	ps = ps.or()
	ps.mu.Lock()
	var all []*Reservation
	for _, l := range ps.held {
		all = append(all, l...)
	}
	sets := slices.Clone(ps.sets)
	ps.mu.Unlock()
	var list []PortInfo
	for _, r := range all {
		if info, ok := r.info(); ok {
			list = append(list, info)
			continue
		}
		ps.remove(r)
	}
	for _, s := range sets {
		for addr, err := range s.Conflicts() {
			list = append(list, PortInfo{Addr: netip.AddrPortFrom(addr, s.Port()), State: PortConflict, Err: err})
		}
	}
	slices.SortFunc(list, func(a, b PortInfo) int {
		return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.State, b.State))
	})
	return list
}

// info returns false if the port is no longer held.
func (r *Reservation) info() (PortInfo, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	info := PortInfo{Addr: r.addrPort(), Owner: r.owner, References: r.endpoints}
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
	case info.State == PortIdle && r.socket != nil && (r.listens || r.device):
		info.State = PortListening
	case info.State == PortIdle && r.endpoints > 0:
		info.State = PortConnected
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
	return r.socket == nil && r.cancel == nil && r.endpoints == 0 && (r.lives == nil || !r.lives())
}
