package rdmanet

import (
	"sync"

	"github.com/rdmanet/iwarp/internal/limits"
	"github.com/rdmanet/iwarp/rdmanet/internal/flow"
)

// A Budget bounds what the connections that share it let their peers send ahead of the calls of
// Read, where the transport places by software. Each connection has a space of its own, which
// begins with up to 512 KiB, and doubles, up to Config.RingSize, as long as half of it is read in
// less than half a second. As the sum of the spaces nears the budget, they stop growing and new
// ones begin with less; where it exceeds the budget, they shrink as they are read, down to 16 KiB,
// which every connection has. The spaces of devices are memory from the start and do not count.
//
// The methods may be called from several goroutines at once.
type Budget struct{ account flow.Budget }

// NewBudget returns a budget of that many bytes.
func NewBudget(bytes uint64) *Budget {
	b := new(Budget)
	b.account.Limit = bytes
	return b
}

// processBudget serves the connections that have no other budget.
var processBudget = sync.OnceValue(func() *Budget {
	return NewBudget(limits.Memory() / budgetShare)
})

// budgetShare is the part of the memory that unread bytes may take.
const budgetShare = 4

// Limit returns the budget in bytes.
func (b *Budget) Limit() uint64 { return b.account.Limit }

// Held returns the sum of the spaces in bytes.
func (b *Budget) Held() uint64 { return b.account.Held() }
