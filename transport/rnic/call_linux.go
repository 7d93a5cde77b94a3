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
	errno := l.errno()
	if r, _, _ := purego.SyscallN(fn, args...); int32(r) == 0 {
		return nil
	}
	return os.NewSyscallError(name, said(*errno))
}

// create calls a function that returns a pointer, or NULL and sets errno.
func (l *library) create(name string, fn uintptr, args ...uintptr) (uintptr, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	errno := l.errno()
	if r, _, _ := purego.SyscallN(fn, args...); r != 0 {
		return r, nil
	}
	return 0, os.NewSyscallError(name, said(*errno))
}

// errno returns the place of errno of this thread, to which the caller is locked, with no error in
// it: not every function that fails sets it, and what stands there is of an earlier one.
func (l *library) errno() *int32 {
	p, _, _ := purego.SyscallN(l.errnoLocation)
	errno := at[int32](p)
	*errno = 0
	return errno
}

// said is the error of a function that has failed.
func said(errno int32) error {
	if errno == 0 {
		return syscall.EIO // it has forgotten to tell
	}
	return syscall.Errno(errno)
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
