// Package ports tests what this module says of TCP ports (docs/portspace.md) from outside: by other
// processes, other users and network namespaces, against what the kernel does with sockets that are
// not this module's.
package ports
