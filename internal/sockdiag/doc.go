// Package sockdiag asks the kernel which TCP sockets have a port (sock_diag(7)), and /proc whose
// they are. It needs no privilege, except for the names of other users' processes.
package sockdiag
