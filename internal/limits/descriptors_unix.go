//go:build unix

package limits

import (
	"math"
	"syscall"
)

// Descriptors returns how many descriptors the process may have.
func Descriptors() int {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return math.MaxInt32
	}
	return int(min(uint64(limit.Cur), math.MaxInt32))
}
