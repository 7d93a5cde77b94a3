// Package iwarp gives a service sockets over iWARP in place of those of package net: Dial and
// Listen return connections that run over queue pairs where both ends can, and plain kernel TCP
// connections where they cannot.
//
// The port of an address means the same in both worlds, because a kernel socket always holds it. A
// Listener serves iWARP and plain TCP clients on one port, told apart by their first bytes.
// Describe says what a connection became, and why.
//
// # Policies
//
// The Offload field of a Dialer or ListenConfig, or where it is zero the environment variable
// IWARP_OFFLOAD (auto, never, prefer or require; for listeners IWARP_LISTEN_OFFLOAD takes
// precedence), says which paths are allowed:
//
//	OffloadAuto     an RDMA device that offloads and reaches the peer, else plain TCP. A listener
//	                takes everybody.
//	OffloadPrefer   a device, else iWARP in software, else plain TCP on a new connection
//	OffloadRequire  a device or iWARP in software, else an error
//	OffloadNever    plain TCP
//
// Without an RDMA device OffloadAuto dials plain TCP, even where there is siw or rxe, the kernel's
// devices in software: software is used where it is asked for. A fallback is the very *net.TCPConn,
// with nothing read from it or written to it.
//
// RDMA devices are enabled by importing package transport/rnic, which registers itself, and shared
// memory between processes of one host by package transport/shm, which counts as a device; iWARP in
// software is always available.
//
// # Errors
//
// Errors are those of package net: a *net.OpError with the same fields, in which errors.Is finds
// net.ErrClosed, os.ErrDeadlineExceeded, context.Canceled and the errno. If OffloadRequire cannot
// be met, errors.As finds an *OffloadError in it.
package iwarp
