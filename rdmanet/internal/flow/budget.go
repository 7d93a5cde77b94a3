package flow

import "sync/atomic"

// A Budget bounds the sum of the spaces that share it. Its methods may be called from several
// goroutines at once.
type Budget struct {
	Limit uint64 // bytes; it does not change
	sum   atomic.Uint64
}

// Held returns the sum of the spaces in bytes.
func (b *Budget) Held() uint64 { return b.sum.Load() }

// take adds n bytes, and reports whether there is room for them; otherwise it adds nothing.
func (b *Budget) take(n uint64) bool {
	if b.sum.Add(n) <= b.Limit {
		return true
	}
	b.give(n)
	return false
}

// give takes n bytes off.
func (b *Budget) give(n uint64) { b.sum.Add(-n) }

// over reports whether more is held than there should be.
func (b *Budget) over() bool { return b.sum.Load() > b.Limit }
