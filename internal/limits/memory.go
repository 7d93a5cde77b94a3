// Package limits says what the process may have: memory and descriptors.
package limits

import (
	"math"
	"runtime/metrics"
)

// fallback is assumed where the system does not say.
const fallback = 4 << 30

// Memory returns the least of GOMEMLIMIT, the limits of the process's cgroup and the machine's
// memory.
func Memory() uint64 {
	n := min(system(), goLimit())
	if n == math.MaxUint64 {
		return fallback
	}
	return n
}

// goLimit returns what debug.SetMemoryLimit has set.
func goLimit() uint64 {
	s := []metrics.Sample{{Name: "/gc/gomemlimit:bytes"}}
	metrics.Read(s)
	if s[0].Value.Kind() != metrics.KindUint64 || s[0].Value.Uint64() >= math.MaxInt64 {
		return math.MaxUint64
	}
	return s[0].Value.Uint64()
}
