// Package pool lends buffers for what is on its way: a connection that is idle holds none.
package pool

import "sync"

// The sizes of buffers, in bytes.
const (
	Tiny  = 1 << 10 // the beginning of an FPDU
	Small = 8 << 10
	Mid   = 24 << 10
	Large = 72 << 10  // one FPDU of the largest size, and a little more
	Huge  = 288 << 10 // receive staging of a busy connection; larger ones leave the processor's cache
)

var pools = [...]struct {
	size int
	pool sync.Pool
}{{size: Tiny}, {size: Small}, {size: Mid}, {size: Large}, {size: Huge}}

// SizeFor returns the size of the smallest buffer of at least n bytes that comes from a pool, or n.
func SizeFor(n int) int {
	for i := range pools {
		if n <= pools[i].size {
			return pools[i].size
		}
	}
	return n
}

// Get returns a buffer of at least n bytes, from a pool if n is not above Huge.
func Get(n int) *[]byte {
	for i := range pools {
		if n <= pools[i].size {
			if b, ok := pools[i].pool.Get().(*[]byte); ok {
				return b
			}
			return fresh(pools[i].size)
		}
	}
	return fresh(n)
}

// fresh is kept out of the frame of Get, which is one of many where little is read or written.
//
//go:noinline
func fresh(n int) *[]byte {
	b := make([]byte, n)
	return &b
}

// Put gives back what Get returned.
func Put(b *[]byte) {
	for i := range pools {
		if len(*b) == pools[i].size {
			pools[i].pool.Put(b)
		}
	}
}
