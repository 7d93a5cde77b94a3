// Package iwarp gives a service sockets over iWARP in place of those of package net: Dial and
// Listen return connections that run over queue pairs where both ends can, and plain kernel TCP
// connections where they cannot.
//
// The port of an address means the same in both worlds, because a kernel socket always holds it. A
// Listener serves iWARP and plain TCP clients on one port, told apart by their first bytes.
// Describe says what a connection became, and why.
//
// # Terms
//
// An MPA request is the first thing that an iWARP client sends, and how it asks for iWARP: a frame
// (RFC 5044, section 7.1) that begins with the 16 bytes "MPA ID Req Frame". The server answers with
// an MPA reply; one that does not know of iWARP takes the request for its own protocol.
//
// A kernel connection is a TCP connection as package net makes it, by a socket of the host's
// kernel. It is returned as it is, as plain TCP, or carries iWARP in software. An RDMA device makes
// connections of its own.
//
// # Policies
//
// The Offload field of a Dialer or ListenConfig, or where it is zero the environment variable
// IWARP_OFFLOAD (auto, never, prefer, require or device; for listeners IWARP_LISTEN_OFFLOAD takes
// precedence), says which paths are allowed:
//
//	OffloadAuto     an RDMA device that offloads and reaches the peer, else plain TCP. A listener
//	                takes everybody.
//	OffloadPrefer   a device, else iWARP in software, else plain TCP on a new connection
//	OffloadRequire  a device or iWARP in software, else an error
//	OffloadDevice   a device, else an error
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
// # Policies for some addresses
//
// Dialer.Policy is a function that has an address and returns its policy. In the environment rules
// do the same:
//
//	IWARP_OFFLOAD=prefer,10.0.0.0/8=require,db.internal:5432=never
//
// Rules are separated by commas. One without "=" is for all that no other matches, OffloadAuto if
// there is none. Before "=" is HOST, HOST:PORT or :PORT; the host is a prefix (fd00::/8), an
// address, a name as it is dialed, or "*." and a name for all names that end in it. IPv6 with a
// port is in brackets: [fd00::/8]:5432. The first rule that matches counts. A name is looked up for
// rules with addresses; where those that it has are to be dialed by different policies, each is
// tried by its own, in their order.
//
// Of IWARP_OFFLOAD a listener takes only what is for all addresses; the rules of
// IWARP_LISTEN_OFFLOAD are for the address that is listened on: "require,:8081=auto". What is no
// rule is an error of each Dial or Listen that needs the variable.
//
// # Errors
//
// Errors are those of package net: a *net.OpError with the same fields, in which errors.Is finds
// net.ErrClosed, os.ErrDeadlineExceeded, context.Canceled and the errno. If OffloadRequire or
// OffloadDevice cannot be met, errors.As finds an *OffloadError in it.
//
// Where package net has "tcp4" or "tcp6" as the Net of errors of accepted connections, after Listen
// with one of these, those of plain connections here have "tcp".
package iwarp
