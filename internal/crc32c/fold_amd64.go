//go:build !purego

package crc32c

import (
	"math/bits"

	"golang.org/x/sys/cpu"
)

// A CRC is what is left of a polynomial in its division by another one, so the bytes of a message
// can be folded: a piece is multiplied with x to the power of the distance to a later piece, less
// all multiples of the divisor, and added to that. What is left of the last piece is that of the
// whole (Gopal et al., "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ", 2009).

const (
	leastFolded = 256 // bytes, which fill all accumulators
	block       = 64
)

// powers has, for some distances, the powers of x that the lower and the upper half of 16 bytes are
// multiplied with.
type powers struct{ far, block, lane [2]uint64 }

var constants = powers{
	far:   distance(leastFolded),
	block: distance(block),
	lane:  distance(16),
}

// distance returns the powers for that many bytes.
func distance(bytes int) [2]uint64 { return [2]uint64{power(8*bytes + 32), power(8*bytes - 32)} }

// power returns x to the n less all multiples of the divisor. The bits are in the order of the CRC,
// which is the reverse, and one further on, as is the product of two numbers in that order.
func power(n int) uint64 {
	const divisor = 0x1edc6f41 // without x to the 32
	r := uint32(1)
	for range n {
		carry := r >> 31
		r = r<<1 ^ carry*divisor
	}
	return uint64(bits.Reverse32(r)) << 1
}

// A kernel folds n bytes at p, a multiple of 64 and at least 256, into the state of a CRC.
type kernel func(state uint32, p *byte, n int, k *powers) uint32

var widest = choose()

func choose() kernel {
	const vpclmulqdq = 1 << 10
	x := &cpu.X86
	switch {
	case !x.HasSSE42 || !x.HasPCLMULQDQ || !x.HasAVX2 || features()&vpclmulqdq == 0:
		return nil
	case has512():
		return fold512
	}
	return fold256
}

func has512() bool {
	x := &cpu.X86
	return x.HasAVX512F && x.HasAVX512BW && x.HasAVX512VL && x.HasAVX512DQ && x.HasAVX512VPCLMULQDQ
}

// folded returns how many of n bytes fold takes.
func folded(n int) int {
	if n < leastFolded || widest == nil {
		return 0
	}
	return n &^ (block - 1)
}

func fold(crc uint32, p []byte) uint32 { return ^widest(^crc, &p[0], len(p), &constants) }

// features returns the third word of leaf 7 of CPUID.
func features() uint32

//go:noescape
func fold512(state uint32, p *byte, n int, k *powers) uint32

//go:noescape
func fold256(state uint32, p *byte, n int, k *powers) uint32
