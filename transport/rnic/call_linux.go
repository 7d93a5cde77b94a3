//go:build amd64 || arm64

package rnic

import (
	"os"
	"runtime"
	"syscall"

	"github.com/ebitengine/purego"
)

// call calls a function that returns 0, or -1 and sets errno.
func (l *library) call(name string, fn uintptr, args ...uintptr) error {
	// errno is the thread's.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if r, _, _ := purego.SyscallN(fn, args...); int32(r) == 0 {
		return nil
	}
	return os.NewSyscallError(name, l.errno())
}

// create calls a function that returns a pointer, or NULL and sets errno.
func (l *library) create(name string, fn uintptr, args ...uintptr) (uintptr, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if r, _, _ := purego.SyscallN(fn, args...); r != 0 {
		return r, nil
	}
	return 0, os.NewSyscallError(name, l.errno())
}

// errno is that of the last call on this thread, to which the caller is locked.
func (l *library) errno() error {
	p, _, _ := purego.SyscallN(l.errnoLocation)
	n := *at[int32](p)
	if n == 0 {
		n = int32(syscall.EIO) // the function has forgotten to tell
	}
	return syscall.Errno(n)
}

// verb calls a function that returns 0 or an error number; some providers return it negated.
func verb(name string, fn uintptr, args ...uintptr) error {
	r, _, _ := purego.SyscallN(fn, args...)
	return os.NewSyscallError(name, number(r))
}

// number is the error of a verb's result, nil for 0.
func number(r uintptr) error {
	n := int32(r)
	switch {
	case n == 0:
		return nil
	case n < 0:
		n = -n
	}
	return syscall.Errno(n)
}
