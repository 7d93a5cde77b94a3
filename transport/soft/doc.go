// Package soft is iWARP in user space: an MPA/DDP/RDMAP endpoint (RFC 5044, 6581, 5041, 5040) over
// a kernel TCP connection. It needs no device, no privilege and no kernel module, and talks to any
// iWARP peer: itself, the Linux kernel's siw, an RNIC.
//
// The goroutines that call into a queue pair do its protocol work. Whoever waits reads the socket,
// places what arrives, answers RDMA Reads and sends what is due; one goroutine does so at a time,
// and hands over when it leaves. A goroutine of the package's own exists only on demand: to serve
// memory that is exposed while nobody waits, to finish output that the kernel did not take at once,
// and to see a closed connection off.
//
// A queue pair has everything that is optional in package transport except what is for devices:
// memory of its own and a port that it leaves later. Its options are those of the socket below.
//
// CRC32C guards against corruption. Package rdmanet leaves it out between two ends on one host,
// unless Config.AlwaysCRC asks for it. It does not guard against an attacker: there is no secrecy
// and no proof of identity here (RFC 5042). Where that matters, use TLS above it or an encrypted
// network below it.
package soft
