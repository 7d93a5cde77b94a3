package regions_test

import (
	"math/bits"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport"
)

// TestSTagsAreRandom has no STag say anything about another: each of their bits is set in half of
// them, and changes from one to the next as often.
func TestSTagsAreRandom(t *testing.T) {
	const n = 4096
	table, _, _ := newTable()
	seen := make(map[transport.STag]bool)
	var set, changed [32]int
	var last transport.STag
	for range n {
		r := add(t, table, make([]byte, 8), transport.RemoteWrite)
		require.False(t, seen[r.STag()])
		seen[r.STag()] = true
		for i := range set {
			set[i] += int(r.STag() >> i & 1)
			changed[i] += bits.OnesCount32(uint32(r.STag()^last) & (1 << i))
		}
		last = r.STag()
	}
	for i := range set {
		require.InDelta(t, n/2, set[i], n/10, "bit %d", i)
		require.InDelta(t, n/2, changed[i], n/10, "bit %d from one to the next", i)
	}
}
