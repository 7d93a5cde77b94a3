package pool_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport/internal/pool"
)

// TestPool lends what is asked for, and nothing that is larger than it has to be.
func TestPool(t *testing.T) {
	for n, want := range map[int]int{
		0: pool.Tiny, pool.Tiny: pool.Tiny, pool.Tiny + 1: pool.Small, pool.Large: pool.Large, pool.Huge: pool.Huge, pool.Huge + 1: pool.Huge + 1,
	} {
		require.Equal(t, want, pool.SizeFor(n), n)
		b := pool.Get(n)
		require.Len(t, *b, want)
		pool.Put(b)
	}
}
