// Package shm is the transport between processes of one host: queue pairs through shared memory.
// An RDMA Write is a copy into memory that both processes have.
//
// Importing it registers it:
//
//	import _ "github.com/rdmanet/iwarp/transport/shm"
//
// It needs Linux; elsewhere there is no device. A service is reached at the address and port of its
// TCP listener, from within its network namespace. Besides that listener the transport listens on a
// Unix socket whose abstract name holds address and port, and that name alone says whether a
// service is there: no byte goes to one that does not know of this.
//
// # Memory
//
// Each end makes the memory in which it receives: indices and a ring for 256 KiB, of which only
// what is used takes memory. The other end gets it over the Unix socket as a memfd that cannot
// change its size. What the peer writes is never relied on: indices, lengths and headers are copied
// once and then checked, and payload counts as read only after it was copied out. A peer that
// breaks the rules gets its connection ended, with a *transport.TerminateError.
//
// The Unix socket stays open for the life of the connection, as its only descriptor. Its end is
// the end of a peer that was killed; a byte on it wakes an end that sleeps in Go's poller, and
// none is sent to one that is awake.
//
// # Trust
//
// Anybody can take an abstract name. Dial goes on only if the process that has it also has the TCP
// listener of the port: the kernel reports the user and the socket of both (SO_PEERCRED and
// sock_diag). Where they differ, or where the kernel does not say, the error matches
// transport.ErrNoRoute, so that package iwarp goes on with plain TCP. A listener can choose its
// clients by [Config.Allow]. It takes the client's word for its address, as long as that is one of
// the host, and for its port, as long as that does not need a privilege which the client lacks.
package shm
