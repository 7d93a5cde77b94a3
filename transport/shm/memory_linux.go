package shm

import (
	"fmt"
	"sync/atomic"
	"syscall"
)

const (
	ringSize  = 256 << 10
	leastRing = 64 << 10 // of a peer's, which must not be larger than ours: its pages may be charged to us
)

// errMemory means that the connections of a Transport have all the memory that they may.
var errMemory = fmt.Errorf("connections through shared memory have all that they may: %w", syscall.ENOBUFS)

// A budget bounds the sum of the rings that the connections of a Transport receive in.
type budget struct {
	limit int64
	sum   atomic.Int64
}

// take takes a ring off what is left, a smaller one once half of the whole is gone. It returns 0 if
// there is none.
func (b *budget) take() (ring int) {
	for {
		sum := b.sum.Load()
		switch left := b.limit - sum; {
		case left >= b.limit/2+ringSize:
			ring = ringSize
		case left >= b.limit/4+ringSize/2:
			ring = ringSize / 2
		case left >= leastRing:
			ring = leastRing
		default:
			return 0
		}
		if b.sum.CompareAndSwap(sum, sum+int64(ring)) {
			return ring
		}
	}
}

// scarce reports whether more than a quarter of the whole is taken.
func (b *budget) scarce() bool { return b.sum.Load() > b.limit/4 }

func (b *budget) give(ring int) { b.sum.Add(-int64(ring)) }
