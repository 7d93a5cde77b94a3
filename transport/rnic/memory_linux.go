//go:build amd64 || arm64

package rnic

import (
	"runtime"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/rnic/internal/abi"
)

// A region is a memory region with the memory that it was made for.
type region struct {
	q     *queuePair
	mem   *mapping
	n     int
	spare int
	key   uint32 // local
	stag  transport.STag
	base  uint64

	mu   sync.Mutex
	mr   uintptr // struct ibv_mr; 0 once it is deregistered
	over bool    // Deregister was called

	last uint64 // the number after that of the last send request that uses it; guarded by queuePair.sendMu
}

var _ transport.MemoryRegion = (*region)(nil)

func (r *region) STag() transport.STag { return r.stag }
func (r *region) Base() uint64         { return r.base }
func (r *region) Len() uint64          { return uint64(r.n) }

// A mapping is memory outside of Go's heap.
type mapping struct{ b []byte }

func (m *mapping) unmap() { _ = unix.Munmap(m.b) }

// empty gives the pages back. The addresses stay, or whoever still looks at the bytes would bring
// the process down.
func (m *mapping) empty() { _ = unix.Madvise(m.b, unix.MADV_DONTNEED) }

// AllocateMemory implements transport.MemoryAllocator.
func (q *queuePair) AllocateMemory(n int, access transport.Access) ([]byte, transport.MemoryRegion, error) {
	if q.poor {
		return nil, nil, q.Err()
	}
	if access&transport.Spare == 0 {
		return q.allocate(n, access, 0)
	}
	if !takeSpare(n, lockable(q.dev)) {
		return nil, nil, registration(syscall.ENOMEM)
	}
	b, r, err := q.allocate(n, access, n)
	if err != nil {
		spare.Add(int64(-n))
	}
	return b, r, err
}

// allocate registers n bytes, of which so many count as spare.
func (q *queuePair) allocate(n int, access transport.Access, spare int) ([]byte, transport.MemoryRegion, error) {
	b, err := mapMemory(max(n, 1))
	if err != nil {
		return nil, nil, err
	}
	m := &mapping{b: b}
	r, err := q.register(m, n, access, spare)
	if err != nil {
		m.unmap()
		return nil, nil, err
	}
	return b[:n:n], r, nil
}

// RegisterMemory refuses: the memory must be of AllocateMemory, as Go's could be shared with a
// child process.
func (q *queuePair) RegisterMemory([]byte, transport.Access) (transport.MemoryRegion, error) {
	return nil, errNoMemory
}

func (q *queuePair) register(m *mapping, n int, access transport.Access, spare int) (*region, error) {
	q.regionMu.Lock()
	defer q.regionMu.Unlock()
	if q.regionsGone {
		return nil, transport.ErrClosed
	}
	base := uintptr(unsafe.Pointer(unsafe.SliceData(m.b)))
	mr, err := q.lib.create("ibv_reg_mr", q.lib.ibvRegMR, q.pd, base, uintptr(max(n, 1)), accessFlags(access))
	if err != nil {
		return nil, registration(err)
	}
	r := &region{
		q: q, mem: m, n: n, spare: spare, base: uint64(base), mr: mr,
		key: at[abi.MR](mr).Lkey, stag: transport.STag(at[abi.MR](mr).Rkey),
	}
	q.regions[r] = struct{}{}
	// A region that nobody deregisters must not be collected before the queue pair has let go of
	// it.
	runtime.AddCleanup(r, func(m *mapping) { m.unmap() }, m)
	return r, nil
}

func accessFlags(a transport.Access) uintptr {
	var f uint32
	if a&(transport.LocalWrite|transport.RemoteWrite) != 0 {
		f |= abi.AccessLocalWrite // RemoteWrite needs it
	}
	if a&transport.RemoteWrite != 0 {
		f |= abi.AccessRemoteWrite
	}
	if a&transport.RemoteRead != 0 {
		f |= abi.AccessRemoteRead
	}
	return uintptr(f)
}

// Deregister implements transport.MemoryRegion. What must still be sent from the region is sent
// first; after the queue pair's Close that is left to its end.
func (r *region) Deregister() error {
	r.mu.Lock()
	again := r.over
	r.over = true
	gone := r.mr == 0
	r.mu.Unlock()
	if again {
		return transport.ErrClosed
	}
	if gone {
		r.mem.empty()
		return nil
	}
	if r.q.keepsRegions() {
		return nil
	}
	r.q.awaitSends(r)
	r.q.forget(r)
	return nil
}

// revoke deregisters the region with the device.
func (r *region) revoke() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mr != 0 {
		_ = verb("ibv_dereg_mr", r.q.lib.ibvDeregMR, r.mr)
		r.mr = 0
		spare.Add(int64(-r.spare))
	}
	if r.over {
		r.mem.empty()
	}
}

func (r *region) live() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.over
}

// contains reports whether b lies in the region.
func (r *region) contains(b []byte) bool {
	if len(b) == 0 {
		return true
	}
	at := uint64(uintptr(unsafe.Pointer(unsafe.SliceData(b))))
	return at >= r.base && at-r.base <= uint64(r.n) && uint64(len(b)) <= uint64(r.n)-(at-r.base)
}

func (q *queuePair) forget(r *region) {
	q.regionMu.Lock()
	_, mine := q.regions[r]
	delete(q.regions, r)
	q.regionMu.Unlock()
	if mine {
		r.revoke()
	}
}

// keepsRegions reports whether the end of the queue pair will deregister the regions.
func (q *queuePair) keepsRegions() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.closed && q.remains != remainsNone
}

// dropRegions deregisters all regions at the end of the queue pair.
func (q *queuePair) dropRegions() {
	q.regionMu.Lock()
	regions := q.regions
	q.regions, q.regionsGone = nil, true
	q.regionMu.Unlock()
	for r := range regions {
		r.revoke()
	}
}
