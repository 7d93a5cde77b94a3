package shm

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"sync"

	"github.com/rdmanet/iwarp/transport"
)

// A region is registered memory of one queue pair. Tagged offsets are zero-based.
type region struct {
	table  *regionTable
	stag   transport.STag
	access transport.Access
	length uint64
	mem    []byte           // nil with a placer
	placer transport.Placer // nil with memory
}

// regionTable holds the regions of a queue pair. Its lock is held for reading while bytes are
// placed or fetched, so that Deregister returns only when nobody is touching the memory (RFC 5042
// §6.2.3.2).
type regionTable struct {
	mu      sync.RWMutex
	m       map[transport.STag]*region
	exposed int    // regions that must be served at all times
	changed func() // called without the lock when exposed may have changed
}

var (
	errRegionGone   = errors.New("memory region is deregistered")
	errEmptyRegion  = errors.New("memory region is empty; register at least one byte")
	errDuplicateReg = errors.New("no free stag found; deregister regions")
)

const remoteRights = transport.RemoteRead | transport.RemoteWrite

func (r *region) alwaysServed() bool {
	return r.access&remoteRights != 0 && r.access&transport.CallerDriven == 0
}

func (t *regionTable) add(r *region) error {
	if r.length == 0 {
		return errEmptyRegion
	}
	t.mu.Lock()
	if t.m == nil {
		t.m = make(map[transport.STag]*region, 2)
	}
	r.table = t
	// The whole STag is random: a peer cannot guess one that it does not know from one that it does
	// (RFC 5042 §6.3).
	for range 16 {
		var b [4]byte
		rand.Read(b[:])
		stag := transport.STag(binary.BigEndian.Uint32(b[:]))
		if _, used := t.m[stag]; !used && stag != 0 {
			r.stag = stag
			break
		}
	}
	if r.stag == 0 {
		t.mu.Unlock()
		return errDuplicateReg
	}
	t.m[r.stag] = r
	if r.alwaysServed() {
		t.exposed++
	}
	t.mu.Unlock()
	t.changed()
	return nil
}

// remove revokes stag. It reports whether there was such a region.
func (t *regionTable) remove(stag transport.STag) bool {
	t.mu.Lock()
	r, ok := t.m[stag]
	if ok {
		delete(t.m, stag)
		if r.alwaysServed() {
			t.exposed--
		}
	}
	t.mu.Unlock()
	if ok {
		t.changed()
	}
	return ok
}

func (t *regionTable) clear() {
	t.mu.Lock()
	t.m, t.exposed = nil, 0
	t.mu.Unlock()
}

func (t *regionTable) isExposed() bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.exposed > 0
}

// holds reports whether r is a live region of this table.
func (t *regionTable) holds(r *region) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.live(r)
}

// live is holds for a caller that has the lock.
func (t *regionTable) live(r *region) bool { return r.table == t && t.m[r.stag] == r }

func (r *region) STag() transport.STag { return r.stag }
func (r *region) Base() uint64         { return 0 }
func (r *region) Len() uint64          { return r.length }

func (r *region) Deregister() error {
	if !r.table.remove(r.stag) {
		return errRegionGone
	}
	return nil
}

// inside reports whether the n bytes from tagged offset to on lie in the region, without overflow.
func (r *region) inside(to, n uint64) bool {
	return to <= r.length && n <= r.length-to
}

// offset finds b in the region's memory: both are slices of one array, with the same end of their
// capacity.
func (r *region) offset(b []byte) (uint64, bool) {
	off := cap(r.mem) - cap(b)
	if len(b) == 0 || off < 0 || off+len(b) > len(r.mem) || &r.mem[off] != &b[0] {
		return 0, false
	}
	return uint64(off), true
}
