//go:build amd64 || arm64

package rnic

import (
	"os"
	"sync"
	"unsafe"

	"github.com/ebitengine/purego"
	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp/transport/rnic/internal/abi"
)

const (
	postMax   = 32  // requests chained for one doorbell
	pollMax   = 32  // completions taken at once
	inlineMax = 256 // bytes of an inline request
)

// A scratch is memory for the arguments of C functions. Where possible it is mapped, not Go's, so
// that C is given no pointer to Go memory.
type scratch struct {
	args   [3]uintptr // of a call
	out    [4]uintptr // what functions return by pointer
	addr   [sockaddrLen]byte
	param  abi.ConnParam
	init   abi.QPInitAttr
	attr   abi.QPAttr
	device abi.DeviceAttr
	option int32

	private [256]byte // rdma_conn_param has its length in a byte

	sends  [postMax]abi.SendWR
	recvs  [postMax]abi.RecvWR
	sges   [postMax]abi.Sge
	wcs    [pollMax]abi.WC
	inline [postMax][inlineMax]byte
}

const sockaddrLen = 128 // of sockaddr_storage

// scratches are free to use. There are never more of them than calls at the same time.
var scratches struct {
	sync.Mutex
	free []*scratch
}

func getScratch() *scratch {
	scratches.Lock()
	if n := len(scratches.free); n > 0 {
		s := scratches.free[n-1]
		scratches.free = scratches.free[:n-1]
		scratches.Unlock()
		return s
	}
	scratches.Unlock()
	b, err := mapMemory(int(unsafe.Sizeof(scratch{})))
	if err != nil {
		// A process may have only so many mappings (vm.max_map_count). Go's heap needs no new one
		// as a rule, and does not move either.
		return new(scratch)
	}
	return (*scratch)(unsafe.Pointer(unsafe.SliceData(b)))
}

func (s *scratch) release() {
	scratches.Lock()
	scratches.free = append(scratches.free, s)
	scratches.Unlock()
}

// call calls a function of up to three arguments. Unlike purego.SyscallN's own, which escape, they
// are not allocated.
func (s *scratch) call(fn, a, b, c uintptr) uintptr {
	s.args = [3]uintptr{a, b, c}
	r, _, _ := purego.SyscallN(fn, s.args[:]...)
	return r
}

// mapMemory returns zeroed memory that does not move, of at least n bytes. A child process does not
// get it: its pages would become copies when this process writes to them, while a device goes on
// with the old ones (ibv_fork_init(3)).
func mapMemory(n int) ([]byte, error) {
	page := os.Getpagesize()
	b, err := unix.Mmap(-1, 0, (n+page-1)&^(page-1), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	if err := unix.Madvise(b, unix.MADV_DONTFORK); err != nil {
		_ = unix.Munmap(b)
		return nil, os.NewSyscallError("madvise", err)
	}
	return b, nil
}

// at is what a C pointer points to.
func at[T any](p uintptr) *T { return *(**T)(unsafe.Pointer(&p)) }

// ptr is the address of memory that is not Go's.
func ptr[T any](p *T) uintptr { return uintptr(unsafe.Pointer(p)) }
