//go:build !nodevices

package main

// RDMA devices need the loader of the C library, even without cgo. With the tag nodevices the
// program is static.
import _ "github.com/rdmanet/iwarp/transport/rnic"
