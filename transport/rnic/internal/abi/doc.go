// Package abi has the structs and numbers of libibverbs and librdmacm (infiniband/verbs.h,
// rdma/rdma_cma.h) as they lie in memory on 64-bit machines, for calls without cgo. The names are
// C's without their prefixes. A pointer is a uintptr: what it points to belongs to C, or is memory
// that Go's collector does not know.
//
// Of structs that a library makes and hands out by pointer only the part in front of the first
// pthread_mutex_t is here. What comes after it is at other offsets on arm64 than on amd64, as
// glibc's mutexes have 48 and 40 bytes, and again at others with musl.
package abi
