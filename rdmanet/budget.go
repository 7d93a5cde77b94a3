package rdmanet

import (
	"sync"
	"sync/atomic"

	"github.com/rdmanet/iwarp/internal/limits"
)

// A Budget bounds what connections that share it let their peers send ahead of the calls of Read,
// where the transport places by software. Each connection has a space of its own, which begins
// with up to 512 KiB, and doubles, up to Config.RingSize, while less than half a second goes by
// until half of it is read. As the sum of the spaces nears the budget, they grow no more, new ones
// begin with less, and those beyond it shrink as they are read, down to 16 KiB, which no
// connection goes without. Spaces of devices are memory from the start, and do not count.
//
// The methods may be called from several goroutines at once.
type Budget struct {
	limit uint64
	held  atomic.Uint64
}

// NewBudget returns a budget of so many bytes.
func NewBudget(bytes uint64) *Budget { return &Budget{limit: bytes} }

// processBudget is for the connections that have no other.
var processBudget = sync.OnceValue(func() *Budget {
	return NewBudget(limits.Memory() / budgetShare)
})

// budgetShare is the part of the memory that unread bytes may take.
const budgetShare = 4

// Limit returns the budget in bytes.
func (b *Budget) Limit() uint64 { return b.limit }

// Held returns the sum of the spaces in bytes.
func (b *Budget) Held() uint64 { return b.held.Load() }

// take adds n bytes, and reports whether there is room for them; otherwise it adds nothing.
func (b *Budget) take(n uint64) bool {
	if b.held.Add(n) <= b.limit {
		return true
	}
	b.give(n)
	return false
}

// give takes n bytes off.
func (b *Budget) give(n uint64) { b.held.Add(-n) }

// over reports whether more is held than there should be.
func (b *Budget) over() bool { return b.held.Load() > b.limit }
