// Package rnic is the transport of RDMA devices: iWARP, RoCE and InfiniBand, through librdmacm and
// libibverbs, without cgo.
//
// Importing it registers it:
//
//	import _ "github.com/rdmanet/iwarp/transport/rnic"
//
// The libraries are opened when a device is there and first used; a machine without either simply
// has no RNIC, and [UnavailableError] tells why where something is missing that can be mended. They
// are opened by github.com/ebitengine/purego, which makes the binary need the C library's loader,
// whether it was built with cgo or not. It needs Linux on amd64 or arm64; elsewhere there is no
// device.
//
// A queue pair has a completion channel in Go's poller and no goroutine; connection events come to
// one goroutine for all of them. No thread waits in C except for what the kernel does within a
// system call: siw makes its TCP connection in one, for which a goroutine waits. What a Transport
// asked for is over when Close has returned, but the device may take longer: [transport.Leaver]
// tells. Queue pairs are also a [transport.MemoryAllocator], a [transport.LastCloser] and a
// [transport.KeepAliver]. To check on a silent peer they send it an empty Write whenever Idle has
// passed, 15 seconds by default; when the device gives up is its own business, so Interval and
// Count mean nothing.
//
// # Limits
//
// Loopback addresses are not reached, as rdma_cm takes any device for them. Private data is at most
// 251 bytes with iWARP, 56 with InfiniBand and RoCE (148 in a refusal, 196 in an answer), where it
// arrives filled up with zeros.
//
// rdma_cm has one event for every end of a connection. Err of an iWARP queue pair is io.EOF after a
// reset, too, and after a Terminate of the peer, unless a request of this end came back with an
// error. Of a device that was removed, and of connections that were lost by that, errors match
// transport.ErrNoDevice.
//
// The removal of a device whose driver waits for its users, like those of siw and rxe, is not held
// up by connections and listeners: they end. It is held up by a process that used the device before
// and has neither on it at that time, until the process ends: librdmacm keeps the device open, and
// is told of the removal only where there is an ID for it. A listener on the wildcard address is
// not one of these.
//
// siw of Linux 6.1 must not be made to dial what does not speak MPA: where bytes 18 and 19 of the
// answer are not zero it reads from address 0 in the kernel (siw_cm_upcall with the length of a
// frame that was refused). It answers RDMA Reads of regions without RemoteRead. It may lose what
// arrives right before the end of the stream, for which reason Close leaves that to the peer for a
// second. With some dozen connections and more, making one may fail now and then with a temporary
// error that matches syscall.EIO, until others have gone: rdma-core takes a place in memory that
// the kernel has chosen for a queue for a failure (SIW_INVAL_UOBJ_KEY).
//
// rxe of Linux 6.1 gets no connection request through after a connection was ended while its
// network interface was down, until it is made anew.
package rnic
