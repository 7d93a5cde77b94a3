package regions_test

import (
	"math/big"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport/internal/regions"
)

// CVE-2026-23243, CVE-2026-45856 (umad, uverbs): a length that is negative in the type in which it
// is checked. Here each offset, length and size of a region is one at which a sign or a sum turns
// over.
func TestCVE2026_23243(t *testing.T) {
	edges := []uint64{0, 1, 63, 64, 65, 1<<31 - 1, 1 << 31, 1<<32 - 1, 1 << 32, 1<<63 - 1, 1 << 63, 1<<63 + 1, 1<<64 - 65, 1<<64 - 64, 1<<64 - 1}
	number := func(n uint64) *big.Int { return new(big.Int).SetUint64(n) }
	for _, size := range edges {
		r := &regions.Region{Length: size}
		for _, to := range edges {
			for _, n := range edges {
				want := new(big.Int).Add(number(to), number(n)).Cmp(number(size)) <= 0
				require.Equal(t, want, r.Inside(to, n), "%d bytes from %d on in %d", n, to, size)
			}
		}
	}
}
