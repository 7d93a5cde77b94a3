//go:build amd64 || arm64

package rnic

import (
	"math"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// spare is how many bytes of spare memory this process has registered.
var spare atomic.Int64

// takeSpare records n bytes of spare memory, unless they are more than their share of what may be
// locked. Each may have a quarter of what is left of a quarter of the limit, so that the first
// connections that turn out busy do not take all from those that come later, and none is taken from
// new connections.
func takeSpare(n int, limit uint64) bool {
	if held := spare.Add(int64(n)); limit == math.MaxUint64 || spareFits(uint64(n), uint64(held)-uint64(n), limit) {
		return true
	}
	spare.Add(int64(-n))
	return false
}

func spareFits(n, held, limit uint64) bool {
	all := limit / 4
	return held <= all && n <= (all-held)/4
}

// lockable returns how many bytes the process may lock for the device. siw does not know of
// CAP_IPC_LOCK, which lifts the limit otherwise.
func lockable(dev *device) uint64 {
	if !dev.siw && locksAll() {
		return math.MaxUint64
	}
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_MEMLOCK, &l) != nil || l.Cur == unix.RLIM_INFINITY {
		return math.MaxUint64
	}
	return l.Cur
}

// locksAll reports whether the process has CAP_IPC_LOCK.
func locksAll() bool {
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var d [2]unix.CapUserData
	return unix.Capget(&h, &d[0]) == nil && d[0].Effective&(1<<unix.CAP_IPC_LOCK) != 0
}
