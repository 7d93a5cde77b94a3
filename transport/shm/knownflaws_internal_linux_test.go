package shm

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The tests of this file are named after flaws of other implementations. Each has the kind of input
// that sets off the flaw there. docs/security.md has the list.

// CVE-2026-74377, CVE-2025-38024, CVE-2024-57795 (rxe): what is in a queue that both ends can write
// to is read once to be checked, and again to be used. Here the header of a record changes once it
// is checked, while the payload is placed.
func TestCVE2026_74377(t *testing.T) {
	t.Parallel()
	const size, length = 4096, 100
	for _, bad := range []header{
		{op: opWrite, flags: flagLast, length: 1<<32 - 1},
		{op: opWrite, flags: flagLast, length: 0},
		{op: opWrite, flags: flagLast, length: length, offset: 1<<64 - 1},
		{op: opSkip}, {op: opEnd, length: size}, {op: opReadResponse, length: 1},
	} {
		p := new(changer)
		a, b := pairOf(t, fullRing, func(_, b *queuePair) {
			r, err := b.RegisterPlacer(size, p)
			require.NoError(t, err)
			p.stag = uint32(r.STag())
		})
		bad.stag = p.stag
		good := header{op: opWrite, flags: flagLast, length: length, stag: p.stag, offset: 8}
		s := a.tx.out
		s.putHeader(0, &good)
		p.change = func() { s.putHeader(0, &bad) }
		require.Nil(t, b.record(recordLen(length)))
		require.Equal(t, [2]uint64{8, length}, [2]uint64{p.off, p.n})
		require.EqualValues(t, recordLen(length), b.rx.pos)
		b.rx.pos = 0
		p.change = func() {}
		if bad.op != opSkip && bad.length > 0 {
			require.NotNil(t, b.record(recordLen(length)), "what is wrong from the beginning is found")
		}
		require.NoError(t, b.Abort())
		require.NoError(t, a.Abort())
	}
}

// A changer is a Placer that changes what it is being given.
type changer struct {
	stag   uint32
	change func()
	off, n uint64
}

func (c *changer) Place(off uint64, p []byte) (news bool, err error) {
	c.change()
	c.off, c.n = off, c.n+uint64(len(p))
	return false, nil
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
