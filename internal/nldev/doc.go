// Package nldev asks the kernel which RDMA devices there are, what their ports are connected to and
// what is in use of them, by the messages of rdma/rdma_netlink.h (what "rdma link" and "rdma
// resource" of iproute2 show). It needs neither privilege nor library, so that a machine without a
// device pays a few system calls to find out.
package nldev
