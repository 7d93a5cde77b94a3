package shm

import (
	"os"
	"runtime/debug"
	"syscall"
	"unsafe"

	"github.com/rdmanet/iwarp/transport"
)

// survive, deferred with what debug.SetPanicOnFault(true) has returned, makes the connection end
// where the system has no memory for a page of a segment that is touched, which would otherwise end
// the process. The peer can bring that about: it can give pages back.
func (q *queuePair) survive(before bool) {
	debug.SetPanicOnFault(before)
	r := recover()
	if r == nil {
		return
	}
	if f, ok := r.(interface{ Addr() uintptr }); !ok || !q.in.has(f.Addr()) && !q.tx.out.has(f.Addr()) {
		panic(r)
	}
	go q.fail(transport.StateError, os.NewSyscallError("mmap", syscall.ENOMEM)) // locks may be held
}

func (s *segment) has(addr uintptr) bool {
	if s == nil || len(s.mem) == 0 {
		return false
	}
	start := uintptr(unsafe.Pointer(&s.mem[0]))
	return start <= addr && addr < start+uintptr(len(s.mem))
}
