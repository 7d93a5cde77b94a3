package lab

import (
	"encoding/binary"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// Usage is what a process uses. All but Memory and the rest grows while the process runs.
type Usage struct {
	CPU        time.Duration // user and system time so far
	Objects    uint64        // allocated so far
	Bytes      uint64        // allocated so far
	Memory     uint64        // bytes of the heap and of stacks, and of memory shared with other processes
	Goroutines uint64
	Conns      uint64 // that the peer serves
}

const usageLen = 6 * 8

func (u Usage) put(b []byte) {
	for i, v := range []uint64{uint64(u.CPU), u.Objects, u.Bytes, u.Memory, u.Goroutines, u.Conns} {
		binary.BigEndian.PutUint64(b[8*i:], v)
	}
}

func parseUsage(b []byte) Usage {
	at := func(i int) uint64 { return binary.BigEndian.Uint64(b[8*i:]) }
	return Usage{time.Duration(at(0)), at(1), at(2), at(3), at(4), at(5)}
}

// OwnUsage returns what this process uses, Memory only after it has collected its garbage.
func OwnUsage(collected bool) Usage {
	u := Usage{CPU: CPUTime(), Goroutines: uint64(runtime.NumGoroutine())}
	if collected {
		debug.FreeOSMemory()
		debug.FreeOSMemory() // what was in a sync.Pool
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		u.Memory = m.HeapAlloc + m.StackInuse + sharedMemory()
	}
	// ReadMemStats would stop the world.
	s := []metrics.Sample{{Name: "/gc/heap/allocs:objects"}, {Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	u.Objects, u.Bytes = s[0].Value.Uint64(), s[1].Value.Uint64()
	return u
}
