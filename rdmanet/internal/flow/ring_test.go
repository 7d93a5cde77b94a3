package flow

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/rdmanet/internal/wire"
)

// stream returns n bytes of a pattern that starts at byte off of a stream.
func stream(off, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		x := off + i
		b[i] = byte(x ^ x>>8*7 ^ x>>16*13)
	}
	return b
}

// copyTo reads what is there.
func copyTo(r *Ring, b []byte) (n int) {
	for n < len(b) {
		k := copy(b[n:], r.Front())
		if k == 0 {
			break
		}
		r.Drop(k)
		n += k
	}
	return n
}

func newRing(size int) *Ring { return &Ring{Size: uint64(size), granted: uint64(size)} }

func TestRingRefuses(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(r *Ring) error
	}{
		{"a gap", func(r *Ring) error { return r.Place(101, make([]byte, 1)) }},
		{"bytes again", func(r *Ring) error { return r.Place(99, make([]byte, 1)) }},
		{"more than was granted", func(r *Ring) error { return r.Place(100, make([]byte, 413)) }},
		{"more announced than placed", func(r *Ring) error { return r.Announce(101) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRing(1024)
			r.granted = 512
			require.NoError(t, r.Place(0, stream(0, 100)))
			require.ErrorIs(t, c.do(r), wire.ErrProtocol)
			require.NoError(t, r.Announce(100))
			require.Equal(t, stream(0, 100), append([]byte(nil), r.Front()...), "what was there before is lost")
		})
	}
	t.Run("nothing", func(t *testing.T) {
		require.NoError(t, newRing(16).Place(1<<40, nil), "an empty placement is a keepalive")
	})
}

func TestRingKeepsOrder(t *testing.T) {
	const total = 300000
	r := newRing(1 << 20)
	for n := 0; n < total; n += 7000 {
		p := stream(n, min(7000, total-n))
		require.NoError(t, r.Place(uint64(n), p))
	}
	b := make([]byte, total)
	require.Zero(t, copyTo(r, b), "bytes are readable only once announced")
	require.NoError(t, r.Announce(100000))
	require.EqualValues(t, 100000, r.Available())
	require.Equal(t, 100000, copyTo(r, b))
	require.NoError(t, r.Announce(total-100000))
	require.Equal(t, total-100000, copyTo(r, b[100000:]))
	require.True(t, bytes.Equal(stream(0, total), b))
	require.Nil(t, r.stored.last, "memory must go back when it is empty")
}

func TestRingPlacesDirectly(t *testing.T) {
	for _, c := range []struct {
		name              string
		before            int // bytes stored when the read begins
		buffer            int
		placed, announced int // while it waits
		direct            int // readable in its buffer afterwards
	}{
		{"all", 0, 100, 60, 60, 60},
		{"to the brim", 0, 100, 100, 100, 100},
		{"more than fits", 0, 100, 250, 250, 100},
		{"not announced", 0, 100, 60, 0, 0},
		{"announced in part", 0, 100, 60, 20, 20},
		{"more than fits, announced in part", 0, 100, 250, 20, 20},
		{"many blocks, announced in part", 0, 200000, 300000, 20, 20},
		{"behind older bytes", 10, 100, 60, 60, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRing(1 << 20)
			require.NoError(t, r.Place(0, stream(0, c.before)))
			b := make([]byte, c.buffer)
			r.Attach(b)
			for n := 0; n < c.placed; n += 40 {
				require.NoError(t, r.Place(uint64(c.before+n), stream(c.before+n, min(40, c.placed-n))))
			}
			require.NoError(t, r.Announce(uint64(c.announced)))
			n := r.Detach()
			require.Equal(t, c.direct, n)
			require.Equal(t, stream(0, n), b[:n])
			clear(b) // it belongs to the caller again

			require.NoError(t, r.Announce(uint64(c.before+c.placed-c.announced)))
			rest := make([]byte, c.before+c.placed+1)
			got := copyTo(r, rest)
			require.True(t, bytes.Equal(stream(n, c.before+c.placed-n), rest[:got]))
			require.Nil(t, r.stored.last)
		})
	}
}

// TestRingTarget has a place for what Place would take, and for nothing else.
func TestRingTarget(t *testing.T) {
	for _, c := range []struct {
		name string
		off  uint64
		n    int
		ok   bool
	}{
		{"next", 10, 20, true},
		{"all that was granted", 10, 40, true},
		{"more than was granted", 10, 41, false},
		{"not next", 11, 10, false},
		{"nothing", 10, 0, false},
		{"as if the ring had been passed", 70, 20, true},
	} {
		r := &Ring{Size: 60, granted: 50, placed: 10, announced: 10, read: 10}
		r.Attach(make([]byte, 100))
		require.Equal(t, c.ok, r.Target(c.off, c.n) != nil, c.name)
		if c.n > 40 {
			require.Error(t, r.Place(c.off, stream(0, c.n)))
		}
	}
	r := &Ring{Size: 60, granted: 100, placed: 50, announced: 50, read: 50}
	r.Attach(make([]byte, 100))
	require.Len(t, r.Target(50, 10), 10)
	require.Nil(t, r.Target(50, 11), "across the end")
	require.Nil(t, (&Ring{Size: 60, granted: 60, direct: make([]byte, 5)}).Target(0, 6), "no room in the buffer")
}

func TestMemoryRing(t *testing.T) {
	r := &Ring{granted: 1000}
	r.Use(stream(0, 1000))
	require.ErrorIs(t, r.Announce(1001), wire.ErrProtocol)
	require.NoError(t, r.Announce(1000))
	b := make([]byte, 1000)
	r.Attach(b)
	require.Zero(t, r.Detach(), "a transport fills this ring on its own")
	require.Equal(t, 700, copyTo(r, b[:700]))
	r.Grant(700)
	copy(r.mem.b, stream(1000, 700))
	require.NoError(t, r.Announce(700))
	require.Equal(t, 1000, copyTo(r, b))
	require.Equal(t, append(stream(700, 300), stream(1000, 700)...), b)
}

// A block is taken off the ring when all of it can be read.
func TestRingTakesBlocks(t *testing.T) {
	r := newRing(1 << 20)
	require.Nil(t, r.TakeBlock())
	require.NoError(t, r.Place(0, stream(0, 100)))
	require.Nil(t, r.TakeBlock(), "not announced")
	require.NoError(t, r.Announce(60))
	require.Nil(t, r.TakeBlock(), "announced in part")
	require.NoError(t, r.Announce(40))
	require.Equal(t, 10, copyTo(r, make([]byte, 10)))
	b := r.TakeBlock()
	require.Equal(t, stream(10, 90), b.Bytes())
	PutBlock(b)
	require.Zero(t, r.Available())
	memory := &Ring{granted: 5, announced: 5}
	memory.Use(make([]byte, 10))
	require.Nil(t, memory.TakeBlock(), "the peer can write to memory")

	b = GetBlock(100)
	require.Equal(t, 100, b.Fill(stream(0, 100)))
	require.Equal(t, stream(0, 100), b.Bytes())
	PutBlock(b)
}

// A ring that is released has nothing more to read, and keeps no memory.
func TestRingRelease(t *testing.T) {
	r := newRing(1 << 20)
	require.NoError(t, r.Place(0, stream(0, 100000)))
	require.NoError(t, r.Announce(500))
	r.Release()
	require.Zero(t, r.Available())
	require.Nil(t, r.Front())
	require.Nil(t, r.stored.last)
	require.ErrorIs(t, r.Place(100000%r.Size, []byte("x")), wire.ErrProtocol)
}

// A ring that moves on to more memory keeps the bytes that are in the first, in their order.
func TestRingMoves(t *testing.T) {
	const small, large = 32, 128
	first, more := make([]byte, small), make([]byte, large)
	var r Ring
	r.Use(first)
	in := Inbound{}
	in.Space.Fix(small)
	in.Start(wire.SGE{Addr: 1000, Key: 1, Length: small}, 64, 2, true)
	r.Grant(small)
	now := time.Now()
	read := byte(0) // the stream counts
	take := func(n int) {
		for range n {
			p := r.Front()
			require.NotEmpty(t, p)
			require.Equal(t, read, p[0])
			read++
			r.Drop(1)
			in.Consumed(1)
		}
	}
	sent := 0
	fill := func(mem []byte, at, n int) {
		for i := range n {
			mem[at+i] = byte(sent)
			sent++
		}
		require.NoError(t, r.Announce(uint64(n)))
	}
	grant := func(addr uint64, key, n uint32) {
		t.Helper()
		require.True(t, in.SpaceDue())
		g := in.Grant(now)
		require.Equal(t, wire.SGE{Addr: addr, Key: key, Length: n}, g.Space)
		r.Grant(uint64(n))
	}
	fill(first, 0, 16)
	take(16)
	grant(1000, 1, 16)
	fill(first, 16, 16)
	fill(first, 0, 16)
	require.True(t, r.Full())
	require.False(t, in.SpaceDue())

	r.Move(more)
	in.Move(wire.SGE{Addr: 5000, Key: 2, Length: large}, r.Announced())
	grant(5048, 2, 16) // although nothing was read: what the stream has left of half a ring
	grant(5064, 2, 64)
	require.False(t, in.SpaceDue(), "the peer's table has two entries")
	fill(more, 48, 16)
	take(16 + 16 + 12)
	require.False(t, in.SpaceDue(), "the first of them is not read")
	fill(more, 64, 64)
	take(4)
	grant(5000, 2, 64)
	take(64)
	fill(more, 0, 64)
	grant(5064, 2, 64)
	take(64)
	require.Error(t, r.Announce(65), "more than was granted")
	require.EqualValues(t, 64, in.granted-uint64(read))
}

// TestBusySpace has a fixed space be too small once half of it was read quickly several times in a
// row, and not before the reader was busy for as long as it was told to bear.
func TestBusySpace(t *testing.T) {
	var s Space
	s.Fix(1000)
	now := time.Now()
	adapt := func(n int, took time.Duration) {
		for range n {
			now = now.Add(took)
			s.adapt(now)
		}
	}
	adapt(1, time.Hour)
	adapt(busyHalves-1, busyReader/2)
	adapt(1, busyReader)
	adapt(busyHalves-1, busyReader/2)
	require.False(t, s.Busy())
	adapt(1, busyReader/2)
	require.True(t, s.Busy())
	s.Bear(10)
	require.True(t, s.Patient())
	adapt(9, busyReader/2)
	adapt(1, busyReader)
	require.True(t, s.Patient())
	adapt(1, busyReader/2)
	require.False(t, s.Patient())
	adapt(busyHalves, busyReader/2)
	require.True(t, s.Busy())
	s.Fix(2000)
	require.False(t, s.Busy())
}
