package crc32c

import (
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestUpdate compares with hash/crc32: all lengths up to some folded blocks, at all alignments, and
// random pieces.
func TestUpdate(t *testing.T) {
	each(t, func(t *testing.T) {
		buf := make([]byte, 80<<10)
		rnd := rand.NewChaCha8([32]byte{1})
		_, _ = rnd.Read(buf)
		check := func(crc uint32, p []byte) {
			if want, got := crc32.Update(crc, table, p), Update(crc, p); got != want {
				require.Equal(t, want, got, "%d bytes after %#x", len(p), crc)
			}
		}
		for n := range 1400 {
			check(uint32(n)*0x9e3779b9, buf[n%67:][:n])
		}
		rounds := 350_000 // a million for all kernels
		if testing.Short() {
			rounds = 1000
		}
		for i := range rounds {
			n := int(rnd.Uint64() % 2048)
			if i%1000 == 0 {
				n = int(rnd.Uint64() % (79 << 10))
			}
			check(uint32(rnd.Uint64()), buf[rnd.Uint64()%1024:][:n])
		}
		for _, b := range []byte{0, 0xff} {
			for i := range buf {
				buf[i] = b
			}
			check(0, buf)
			check(^uint32(0), buf)
		}
	})
}

func BenchmarkUpdate(b *testing.B) {
	for _, n := range []int{64, 256, 1440, 4 << 10, 32 << 10, 64 << 10} {
		p := make([]byte, n)
		b.Run(fmt.Sprintf("hash-crc32/size=%d", n), func(b *testing.B) {
			b.SetBytes(int64(n))
			for b.Loop() {
				crc32.Update(0, table, p)
			}
		})
		each(b, func(b *testing.B) {
			b.Run(fmt.Sprintf("size=%d", n), func(b *testing.B) {
				b.SetBytes(int64(n))
				for b.Loop() {
					Update(0, p)
				}
			})
		})
	}
}
