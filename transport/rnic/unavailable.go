package rnic

import (
	"fmt"

	"github.com/rdmanet/iwarp/transport"
)

// A Cause says what is missing to use the devices of this machine.
type Cause uint8

const (
	NoLibrary    Cause = iota // librdmacm.so.1 or libibverbs.so.1 cannot be loaded
	OldLibrary                // a library lacks a function
	NoSystem                  // the operating system or processor is not supported
	NoConnection              // the kernel's connection manager is not there
	NoPermission              // the device files may not be opened
	NoProvider                // libibverbs has no provider for the device
	NoMemory                  // RLIMIT_MEMLOCK leaves too little memory to register
)

// fixes are what to do, by Cause.
var fixes = [...]string{
	NoLibrary:    "install rdma-core's librdmacm1 and ibverbs-providers",
	OldLibrary:   "install rdma-core 22 or newer",
	NoSystem:     "use linux on amd64 or arm64",
	NoConnection: "load the kernel module rdma_ucm",
	NoPermission: "let the process open /dev/infiniband/rdma_cm and /dev/infiniband/uverbs*",
	NoProvider:   "install the provider of the device, in ibverbs-providers",
	NoMemory:     "raise RLIMIT_MEMLOCK (ulimit -l, LimitMEMLOCK= of systemd)",
}

// String returns the cause in words.
func (c Cause) String() string {
	names := [...]string{"rdma libraries are not there", "rdma libraries are too old", "system is not supported", "kernel has no rdma connection manager",
		"no permission to use rdma", "no provider for the rdma device", "too little memory may be locked"}
	if int(c) < len(names) {
		return names[c]
	}
	return "unknown cause"
}

// An UnavailableError says why a device cannot be used, and what to do about it. errors.Is finds
// what was the matter in it, and transport.ErrNoDevice unless the cause is NoMemory, which may
// pass.
type UnavailableError struct {
	Cause Cause
	Err   error // what happened
}

func (e *UnavailableError) Error() string {
	fix := ""
	if int(e.Cause) < len(fixes) {
		fix = "; " + fixes[e.Cause]
	}
	if e.Err == nil {
		return e.Cause.String() + fix
	}
	return fmt.Sprintf("%v: %v%s", e.Cause, e.Err, fix)
}

// Unwrap returns transport.ErrNoDevice, unless the cause is NoMemory, and Err.
func (e *UnavailableError) Unwrap() []error {
	var list []error
	if e.Cause != NoMemory {
		list = append(list, transport.ErrNoDevice)
	}
	if e.Err != nil {
		list = append(list, e.Err)
	}
	return list
}
