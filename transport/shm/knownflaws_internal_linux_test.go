package shm

import (
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The tests of this file are named after flaws of other implementations. Each has the kind of input
// that sets off the flaw there. docs/security.md has the list.

// CVE-2026-74377, CVE-2025-38024, CVE-2024-57795 (rxe): what is in a queue that both ends can write
// to is read once to be checked, and again to be used. Here the header of a record changes while it
// is taken, from one that is right to one that is not and back, many times over.
func TestCVE2026_74377(t *testing.T) {
	t.Parallel()
	const size = 4096
	a, b, mem, ring := ringed(t, size)
	good := header{op: opWrite, flags: flagLast, length: headerLen, stag: uint32(ring.STag())}
	s := a.tx.out
	s.putHeader(0, &good)
	for name, c := range map[string]struct {
		at  uint64 // of the word that changes
		bad uint64
	}{
		"length": {0, 1<<32 - 1 | uint64(opWrite)<<32},
		"offset": {16, size - 1},
	} {
		var stop atomic.Bool
		taken := 0
		over := make(chan struct{})
		w := s.word(c.at)
		right := *w
		go func() {
			defer close(over)
			for !stop.Load() {
				for range 1000 {
					atomic.StoreUint64(w, c.bad)
					for range 4 { // longer right than wrong
						atomic.StoreUint64(w, right)
					}
				}
				runtime.Gosched()
			}
		}()
		for range 60_000 {
			b.rx.pos = 0
			if b.record(recordLen(headerLen)) == nil {
				taken++
				require.EqualValues(t, recordLen(headerLen), b.rx.pos, name)
			}
		}
		stop.Store(true)
		<-over
		require.NotZero(t, taken, name)
		require.Len(t, mem, size)
	}
	require.NoError(t, b.Abort())
	require.NoError(t, a.Abort())
}

// edges are numbers at which a sign, a width or a sum turns over.
var edges = []uint64{0, 1, 7, headerLen - 1, headerLen, headerLen + 1, maxPiece, maxPiece + 1, ringSize - headerLen, ringSize - 1, ringSize,
	ringSize + 1, ringSize + headerLen, 1<<31 - 1, 1 << 31, 1<<32 - headerLen, 1<<32 - 1, 1 << 32, 1<<63 - 1, 1 << 63, 1<<64 - ringSize,
	1<<64 - headerLen, 1<<64 - 1}

// CVE-2023-1544 (QEMU's pvrdma), CVE-2026-45856 (uverbs): an index of a ring, or a length, that is
// negative or beyond the end, and is used without a check.
func TestCVE2023_1544(t *testing.T) {
	t.Parallel()
	const size = 4096
	for _, tail := range edges {
		for _, length := range []uint64{0, 1, headerLen, ringSize, 1<<31 - 1, 1 << 31, 1<<32 - headerLen, 1<<32 - 1, 1 << 63} {
			a, b, mem, ring := ringed(t, size)
			s := a.tx.out
			s.putHeader(0, &header{op: opWrite, flags: flagLast, length: uint32(length), stag: uint32(ring.STag()), offset: length})
			s.tail.Store(tail)
			s.head.Store(length) // of which the sender is to take nothing
			_, _ = a.PostSend(writeOf(ring, make([]byte, 8), 0))
			for range 3 {
				b.Look()
				a.Look()
			}
			if b.Err() == nil {
				require.LessOrEqual(t, b.rx.pos, uint64(ringSize)+headerLen, "tail %#x, length %#x", tail, length)
			}
			require.Equal(t, make([]byte, size), mem, "tail %#x, length %#x", tail, length)
			require.NoError(t, b.Abort())
			require.NoError(t, a.Abort())
			_ = b.Wait(time.Now())
		}
	}
}
