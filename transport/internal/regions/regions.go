// Package regions has the registered memory of a queue pair, for the transports that place by
// software.
package regions

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"sync"

	"github.com/rdmanet/iwarp/transport"
)

// A Region is registered memory of one queue pair. Tagged offsets are zero-based. Its fields are
// set before Add, and do not change.
type Region struct {
	Length uint64
	Mem    []byte           // nil with a placer
	Placer transport.Placer // nil with memory

	table  *Table
	stag   transport.STag
	Access transport.Access
}

// An Owner is the queue pair that has a Table. It is called without the lock of the table.
type Owner interface {
	// RegionsChanged is called when Exposed may have changed.
	RegionsChanged()
	// RegionRevoked is called before a Deregister returns.
	RegionRevoked()
}

// A Table holds the regions of a queue pair. Its lock is held for reading while bytes are placed or
// fetched, so that Deregister returns only when nobody is touching the memory (RFC 5042 §6.3.3).
type Table struct {
	Owner Owner

	mu      sync.RWMutex
	few     [1]*Region                 // as many as most queue pairs have
	m       map[transport.STag]*Region // the others
	exposed int32                      // regions that must be served at all times
}

var (
	errRegionGone   = errors.New("memory region is deregistered")
	errEmptyRegion  = errors.New("memory region is empty; register at least one byte")
	errDuplicateReg = errors.New("no free stag found; deregister regions")
)

const remoteRights = transport.RemoteRead | transport.RemoteWrite

// Remote reports whether the peer has rights to the region.
func (r *Region) Remote() bool { return r.Access&remoteRights != 0 }

func (r *Region) alwaysServed() bool {
	return r.Remote() && r.Access&transport.CallerDriven == 0
}

// RLock keeps regions from being revoked until RUnlock.
func (t *Table) RLock() { t.mu.RLock() }

// RUnlock undoes one RLock.
func (t *Table) RUnlock() { t.mu.RUnlock() }

// Lookup returns the region of stag, or nil if there is none. The caller holds the lock.
func (t *Table) Lookup(stag transport.STag) *Region {
	for _, r := range t.few {
		if r != nil && r.stag == stag {
			return r
		}
	}
	return t.m[stag]
}

// put takes r in.
func (t *Table) put(r *Region) {
	for i := range t.few {
		if t.few[i] == nil {
			t.few[i] = r
			return
		}
	}
	if t.m == nil {
		t.m = make(map[transport.STag]*Region)
	}
	t.m[r.stag] = r
}

// drop takes r out.
func (t *Table) drop(r *Region) {
	for i := range t.few {
		if t.few[i] == r {
			t.few[i] = nil
			return
		}
	}
	delete(t.m, r.stag)
}

// Add registers r under an STag that it chooses.
func (t *Table) Add(r *Region) error {
	if r.Length == 0 {
		return errEmptyRegion
	}
	t.mu.Lock()
	r.table = t
	// The whole STag is random: a peer cannot guess one that it does not know from one that it does
	// (RFC 5042 §6.1.1).
	for range 16 {
		stag := transport.STag(random())
		// Zero and one appear in start-up frames and are avoided by some peers.
		if t.Lookup(stag) == nil && stag > 1 {
			r.stag = stag
			break
		}
	}
	if r.stag == 0 {
		t.mu.Unlock()
		return errDuplicateReg
	}
	t.put(r)
	if r.alwaysServed() {
		t.exposed++
	}
	t.mu.Unlock()
	t.Owner.RegionsChanged()
	return nil
}

// Remove revokes stag. It reports whether there was such a region.
func (t *Table) Remove(stag transport.STag) bool {
	t.mu.Lock()
	r := t.Lookup(stag)
	if r != nil {
		t.drop(r)
		if r.alwaysServed() {
			t.exposed--
		}
	}
	t.mu.Unlock()
	if r != nil {
		t.Owner.RegionsChanged()
	}
	return r != nil
}

// A Verdict says whether the peer may do something with a region.
type Verdict uint8

const (
	Granted   Verdict = iota
	Unknown           // there is no such region
	Forbidden         // the region is there, but the peer has no right to that
	Outside           // it has, but not that far
)

// Invalidate revokes stag at the peer's request. The peer can name only a region that it was given
// rights to.
func (t *Table) Invalidate(stag transport.STag) Verdict {
	t.mu.RLock()
	r := t.Lookup(stag)
	t.mu.RUnlock()
	switch {
	case r == nil:
		return Unknown
	case !r.Remote() || r.Placer != nil:
		return Forbidden
	}
	t.Remove(stag)
	return Granted
}

// Source returns the region from which the peer wants to read n bytes from tagged offset to on.
func (t *Table) Source(stag transport.STag, to, n uint64) (*Region, Verdict) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	r := t.Lookup(stag)
	switch {
	case r == nil:
		return nil, Unknown
	case r.Access&transport.RemoteRead == 0 || r.Placer != nil:
		return nil, Forbidden
	case !r.Inside(to, n):
		return nil, Outside
	}
	return r, Granted
}

// Clear revokes all regions, and calls nobody.
func (t *Table) Clear() {
	t.mu.Lock()
	t.few, t.m, t.exposed = [1]*Region{}, nil, 0
	t.mu.Unlock()
}

// Exposed reports whether there are regions that must be served at all times.
func (t *Table) Exposed() bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.exposed > 0
}

// Holds reports whether r is a live region of this table.
func (t *Table) Holds(r *Region) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.Live(r)
}

// Live is Holds for a caller that has the lock.
func (t *Table) Live(r *Region) bool { return r.table == t && t.Lookup(r.stag) == r }

// STag implements transport.MemoryRegion.
func (r *Region) STag() transport.STag { return r.stag }

// Base implements transport.MemoryRegion.
func (r *Region) Base() uint64 { return 0 }

// Len implements transport.MemoryRegion.
func (r *Region) Len() uint64 { return r.Length }

// Deregister implements transport.MemoryRegion.
func (r *Region) Deregister() error {
	if !r.table.Remove(r.stag) {
		return errRegionGone
	}
	r.table.Owner.RegionRevoked()
	return nil
}

// Inside reports whether the n bytes from tagged offset to on lie in the region, without overflow.
func (r *Region) Inside(to, n uint64) bool {
	return to <= r.Length && n <= r.Length-to
}

// Offset finds b in the region's memory: both are slices of one array, with the same end of their
// capacity.
func (r *Region) Offset(b []byte) (uint64, bool) {
	off := cap(r.Mem) - cap(b)
	if len(b) == 0 || off < 0 || off+len(b) > len(r.Mem) || &r.Mem[off] != &b[0] {
		return 0, false
	}
	return uint64(off), true
}

// bits are random bytes for STags to come: the system gives many at the price of few.
var bits struct {
	sync.Mutex
	b    [256]byte
	left []byte
}

func random() uint32 {
	bits.Lock()
	defer bits.Unlock()
	if len(bits.left) == 0 {
		rand.Read(bits.b[:])
		bits.left = bits.b[:]
	}
	v := binary.BigEndian.Uint32(bits.left)
	clear(bits.left[:4])
	bits.left = bits.left[4:]
	return v
}
