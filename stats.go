package iwarp

import "sync/atomic"

// ListenerStats counts what became of the connections of a Listener.
type ListenerStats struct {
	PlainTCP uint64 // identified as plain TCP, or taken for it
	IWARP    uint64 // iWARP connections set up, over the kernel's TCP or a device

	Silent          uint64 // of PlainTCP: those silent for FirstByteTimeout, or cut short by the bound on half-open connections
	Redirected      uint64 // iWARP clients sent on to the port where a device listens
	Refused         uint64 // plain TCP closed because of OffloadRequire
	HandshakeFailed uint64 // dropped: the MPA request was bad or not completed in time, or the set-up failed
	Overflowed      uint64 // half-open connections cut short because there were too many at once

	HalfOpen int // connections at present that Accept has taken and that are not identified yet
	Ready    int // connections at present that are identified and wait for the next Accept
}

type counters struct {
	plain, iwarp, silent, redirected, refused, failed, overflowed atomic.Uint64
}

// Stats returns the current counts. They do not include clients in the kernel's queue. With
// OffloadNever only PlainTCP is counted.
func (l *Listener) Stats() ListenerStats {
	if !l.ok() {
		return ListenerStats{}
	}
	c := &l.counters
	l.mu.Lock()
	ready := len(l.ready)
	l.mu.Unlock()
	return ListenerStats{
		PlainTCP: c.plain.Load(), IWARP: c.iwarp.Load(), Silent: c.silent.Load(), Redirected: c.redirected.Load(), Refused: c.refused.Load(),
		HandshakeFailed: c.failed.Load(), Overflowed: c.overflowed.Load(),
		HalfOpen: l.half.len(), Ready: ready,
	}
}
