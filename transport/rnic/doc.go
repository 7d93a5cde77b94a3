// Package rnic is the transport of RDMA devices: iWARP, RoCE and InfiniBand, through librdmacm and libibverbs, without cgo.
//
// Importing it registers it:
//
//	import _ "github.com/rdmanet/iwarp/transport/rnic"
//
// The libraries are opened when a device is there and first used; a machine without either simply has no RNIC, and [UnavailableError]
// tells why where something is missing that can be mended. They are opened by github.com/ebitengine/purego, which makes the binary need the C
// library's loader, whether it was built with cgo or not. It needs Linux on amd64 or arm64; elsewhere there is no device.
//
// A queue pair has a completion channel in Go's poller and no goroutine; connection events come to one goroutine for all of
// them. No thread waits in C but for what the kernel does within a system call: siw makes its TCP connection in one, for which a
// goroutine waits.
package rnic
