package rdmanet

import "sync/atomic"

// A budget bounds the sum of the spaces that share it. Its methods may be called from several
// goroutines at once.
type budget struct {
	limit uint64
	sum   atomic.Uint64
}

// held returns the sum of the spaces in bytes.
func (b *budget) held() uint64 { return b.sum.Load() }

// take adds n bytes, and reports whether there is room for them; otherwise it adds nothing.
func (b *budget) take(n uint64) bool {
	if b.sum.Add(n) <= b.limit {
		return true
	}
	b.give(n)
	return false
}

// give takes n bytes off.
func (b *budget) give(n uint64) { b.sum.Add(-n) }

// over reports whether more is held than there should be.
func (b *budget) over() bool { return b.sum.Load() > b.limit }
