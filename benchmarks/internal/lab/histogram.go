package lab

import (
	"math/bits"
	"time"
)

// subBuckets divides each power of two, so that a value is known to within 1/64 of itself.
const (
	subBits    = 6
	subBuckets = 1 << subBits
)

// A Histogram counts durations without allocating. The zero value is empty.
type Histogram struct {
	count   uint64
	buckets [(64 - subBits + 1) * subBuckets]uint64
}

// Add counts d; a negative one counts as 0.
func (h *Histogram) Add(d time.Duration) {
	h.buckets[bucketOf(uint64(max(d, 0)))]++
	h.count++
}

// Count returns how many durations were added.
func (h *Histogram) Count() uint64 { return h.count }

// Reset empties h.
func (h *Histogram) Reset() { *h = Histogram{} }

// Quantile returns the duration that a share q, 0 to 1, of all durations does not exceed, 0 if
// there are none.
func (h *Histogram) Quantile(q float64) time.Duration {
	if h.count == 0 {
		return 0
	}
	rank := min(max(uint64(q*float64(h.count)+0.5), 1), h.count)
	var seen uint64
	for i, n := range h.buckets {
		if seen += n; seen >= rank {
			return time.Duration(middle(i))
		}
	}
	panic("unreachable: the buckets hold count durations")
}

func bucketOf(v uint64) int {
	if v < subBuckets {
		return int(v)
	}
	shift := bits.Len64(v) - 1 - subBits
	return (shift+1)*subBuckets + int(v>>shift) - subBuckets
}

// middle returns the value in the middle of bucket i.
func middle(i int) uint64 {
	if i < subBuckets {
		return uint64(i)
	}
	shift := i/subBuckets - 1
	low := uint64(i%subBuckets+subBuckets) << shift
	return low + (uint64(1)<<shift)/2
}
