package soft

import "sync"

// Buffer classes, in bytes. A connection holds a buffer only while bytes are on their way.
const (
	tinyBuf  = 1 << 10 // the beginning of an FPDU
	smallBuf = 8 << 10
	midBuf   = 24 << 10
	largeBuf = 72 << 10  // one FPDU of the largest size, and a little more
	hugeBuf  = 144 << 10 // receive staging of a busy connection; also what the kernel did not take of a batch
)

var pools = [...]struct {
	size int
	pool sync.Pool
}{{size: tinyBuf}, {size: smallBuf}, {size: midBuf}, {size: largeBuf}, {size: hugeBuf}}

// classOf returns the size of the smallest buffer of at least n bytes that comes from a pool, or n.
func classOf(n int) int {
	for i := range pools {
		if n <= pools[i].size {
			return pools[i].size
		}
	}
	return n
}

// getBuf returns a buffer of at least n bytes, from a pool if n is not above hugeBuf.
func getBuf(n int) *[]byte {
	for i := range pools {
		if n <= pools[i].size {
			if b, ok := pools[i].pool.Get().(*[]byte); ok {
				return b
			}
			b := make([]byte, pools[i].size)
			return &b
		}
	}
	b := make([]byte, n)
	return &b
}

// putBuf gives back what getBuf returned.
func putBuf(b *[]byte) {
	for i := range pools {
		if len(*b) == pools[i].size {
			pools[i].pool.Put(b)
		}
	}
}
