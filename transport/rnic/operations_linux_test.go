//go:build amd64 || arm64

package rnic_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport"
)

func posted(t *testing.T, q transport.QueuePair) { receives(t, q, 8, 4096) }

func TestSend(t *testing.T) {
	for _, c := range []struct {
		name   string
		size   int
		inline bool
	}{{"nothing", 0, false}, {"inline nothing", 0, true}, {"inline byte", 1, true}, {"inline", 64, true}, {"region byte", 1, false}, {"region", 4096, false}} {
		t.Run(c.name, func(t *testing.T) {
			var mem []byte
			pairs(t, nil, func(t *testing.T, q transport.QueuePair) { mem = receives(t, q, 1, 4096) }, func(t *testing.T, p pair, d transport.Device) {
				want := pattern(c.size, 1)
				wr := transport.SendWR{ID: 77, Flags: transport.Signaled, Data: want}
				if c.inline {
					wr.Flags |= transport.Inline
				} else {
					var m transport.MemoryRegion
					wr.Data, m = allocate(t, p.a, max(c.size, 1), 0)
					wr.Data = wr.Data[:copy(wr.Data, want)]
					wr.Region = m
				}
				post(t, p.a, wr)
				if c.inline {
					want = bytes.Clone(want)
					clear(wr.Data) // the caller's again
				}
				got := next(t, p.b) // mem is the one of the passive end, which was prepared last
				require.Equal(t, transport.Completion{Opcode: transport.OpRecv, Bytes: c.size}, got)
				require.Equal(t, string(want), string(mem[:c.size]))
				require.Equal(t, transport.Completion{ID: 77, Opcode: transport.OpSend}, next(t, p.a))
			})
		})
	}
}

func TestSendsStayInOrder(t *testing.T) {
	const n = 200
	pairs(t, nil, func(t *testing.T, q transport.QueuePair) { receives(t, q, n, 16) }, func(t *testing.T, p pair, d transport.Device) {
		wrs := make([]transport.SendWR, n)
		for i := range wrs {
			wrs[i] = transport.SendWR{ID: uint64(1000 + i), Flags: transport.Inline | transport.Signaled, Data: pattern(1+i%16, i)}
		}
		post(t, p.a, wrs...)
		for i := range n {
			c := next(t, p.b)
			require.Equal(t, transport.Completion{ID: uint64(i), Opcode: transport.OpRecv, Bytes: 1 + i%16}, c)
		}
		for i := range n {
			require.Equal(t, uint64(1000+i), next(t, p.a).ID)
		}
	})
}

// exposed is the memory of the peer in tests of tagged operations.
type exposed struct {
	mem    []byte
	region transport.MemoryRegion
}

func expose(t *testing.T, q transport.QueuePair, n int, access transport.Access) exposed {
	b, m := allocate(t, q, n, access)
	require.EqualValues(t, n, m.Len())
	return exposed{b, m}
}

func TestWrite(t *testing.T) {
	pairs(t, nil, posted, func(t *testing.T, p pair, d transport.Device) {
		x := expose(t, p.b, 1<<20, transport.RemoteWrite)
		b, m := allocate(t, p.a, 1<<20, 0)
		copy(b, pattern(len(b), 3))
		for i, size := range []int{1, 4096, 65536, 1<<20 - 5} {
			clear(x.mem)
			post(t, p.a,
				transport.SendWR{ID: 5, Opcode: transport.OpWrite, Flags: transport.Signaled, Data: b[:size], Region: m, RemoteSTag: x.region.STag(), RemoteOffset: x.region.Base() + 5},
				transport.SendWR{Opcode: transport.OpSend}) // tells the peer
			require.Equal(t, uint64(i), next(t, p.b).ID)
			require.Equal(t, transport.Completion{ID: 5, Opcode: transport.OpWrite}, next(t, p.a))
			require.Equal(t, b[:size], x.mem[5:5+size])
			require.Zero(t, x.mem[4])
		}
	})
}

func TestWriteInline(t *testing.T) {
	pairs(t, nil, posted, func(t *testing.T, p pair, d transport.Device) {
		x := expose(t, p.b, 64, transport.RemoteWrite)
		n := p.a.Attributes().MaxInline
		require.GreaterOrEqual(t, n, 16)
		n = min(n, 64)
		post(t, p.a,
			transport.SendWR{Opcode: transport.OpWrite, Flags: transport.Inline, Data: pattern(n, 9), RemoteSTag: x.region.STag(), RemoteOffset: x.region.Base()},
			transport.SendWR{Opcode: transport.OpSend})
		next(t, p.b)
		require.Equal(t, pattern(n, 9), x.mem[:n])
	})
}

// An empty Write needs no region at the peer, as RFC 5040 and rsockets have it.
func TestWriteOfNothing(t *testing.T) {
	pairs(t, nil, posted, func(t *testing.T, p pair, d transport.Device) {
		post(t, p.a, transport.SendWR{ID: 1, Opcode: transport.OpWrite, Flags: transport.Signaled})
		require.Equal(t, transport.Completion{ID: 1, Opcode: transport.OpWrite}, next(t, p.a))
		post(t, p.a, transport.SendWR{Flags: transport.Inline, Data: []byte("x")})
		require.Equal(t, transport.Completion{Opcode: transport.OpRecv, Bytes: 1}, next(t, p.b))
		require.NoError(t, p.b.Err())
	})
}

func TestRead(t *testing.T) {
	pairs(t, nil, posted, func(t *testing.T, p pair, d transport.Device) {
		x := expose(t, p.b, 1<<20, transport.RemoteRead)
		copy(x.mem, pattern(len(x.mem), 11))
		sink, m := allocate(t, p.a, 1<<20, transport.LocalWrite)
		for _, size := range []int{1, 100, 4096, 1<<20 - 3} {
			clear(sink)
			post(t, p.a, transport.SendWR{ID: 3, Opcode: transport.OpRead, Flags: transport.Signaled, Data: sink[:size], Region: m,
				RemoteSTag: x.region.STag(), RemoteOffset: x.region.Base() + 3})
			require.Equal(t, transport.Completion{ID: 3, Opcode: transport.OpRead, Bytes: size}, next(t, p.a))
			require.Equal(t, x.mem[3:3+size], sink[:size])
		}
	})
}

// More reads than may be under way at once wait for their turn, and what comes after a fence for
// them.
func TestManyReads(t *testing.T) {
	const n = 100
	pairs(t, nil, posted, func(t *testing.T, p pair, d transport.Device) {
		x := expose(t, p.b, n*16, transport.RemoteRead)
		copy(x.mem, pattern(len(x.mem), 2))
		sink, m := allocate(t, p.a, n*16, transport.LocalWrite)
		var wrs []transport.SendWR
		for i := range n {
			wrs = append(wrs, transport.SendWR{ID: uint64(i), Opcode: transport.OpRead, Flags: transport.Signaled, Data: sink[i*16 : i*16+16], Region: m,
				RemoteSTag: x.region.STag(), RemoteOffset: x.region.Base() + uint64(i)*16})
		}
		wrs = append(wrs, transport.SendWR{ID: n, Flags: transport.Signaled | transport.Fence | transport.Inline, Data: []byte("x")})
		post(t, p.a, wrs...)
		for i := range n + 1 {
			require.Equal(t, uint64(i), next(t, p.a).ID)
		}
		require.Equal(t, x.mem, sink)
		next(t, p.b)
	})
}

func TestWriteImmediate(t *testing.T) {
	pairs(t, nil, posted, func(t *testing.T, p pair, d transport.Device) {
		x := expose(t, p.b, 64, transport.RemoteWrite)
		wr := transport.SendWR{ID: 9, Opcode: transport.OpWriteImmediate, Flags: transport.Signaled | transport.Inline, Data: pattern(16, 4),
			RemoteSTag: x.region.STag(), RemoteOffset: x.region.Base(), Immediate: 0x01020304}
		if !p.a.Attributes().Immediate {
			require.True(t, d.IWARP)
			n, err := p.a.PostSend([]transport.SendWR{wr})
			require.Zero(t, n)
			require.Error(t, err)
			require.NoError(t, p.a.Err(), "the connection goes on")
			return
		}
		require.False(t, d.IWARP)
		post(t, p.a, wr)
		require.Equal(t, transport.Completion{Opcode: transport.OpRecvImmediate, Bytes: 16, Immediate: 0x01020304}, next(t, p.b))
		require.Equal(t, pattern(16, 4), x.mem[:16])
		require.Equal(t, transport.Completion{ID: 9, Opcode: transport.OpWriteImmediate}, next(t, p.a))
		post(t, p.a, transport.SendWR{Opcode: transport.OpWriteImmediate, Immediate: 7})
		require.Equal(t, transport.Completion{ID: 1, Opcode: transport.OpRecvImmediate, Immediate: 7}, next(t, p.b))
	})
}

// Requests without a completion must not fill the queue for good.
func TestUnsignaled(t *testing.T) {
	const n = 5000
	pairs(t, &transport.Options{SendDepth: 64}, nil, func(t *testing.T, p pair, d transport.Device) {
		x := expose(t, p.b, 8, transport.RemoteWrite)
		require.Equal(t, 64, p.a.Attributes().SendDepth)
		for i := 0; i < n; {
			k, err := p.a.PostSend([]transport.SendWR{{ID: uint64(i), Opcode: transport.OpWrite, Flags: transport.Inline, Data: []byte{byte(i)}, RemoteSTag: x.region.STag(), RemoteOffset: x.region.Base()}})
			i += k
			if k == 0 {
				require.ErrorIs(t, err, transport.ErrQueueFull)
				require.NoError(t, p.a.Drain(soon()))
			}
		}
		require.NoError(t, p.a.Drain(soon()))
		require.Zero(t, p.a.Poll(make([]transport.Completion, 1)))
		require.NoError(t, p.a.Err())
		receives(t, p.b, 1, 8)
		post(t, p.a, transport.SendWR{}) // after all the Writes
		require.Equal(t, transport.OpRecv, next(t, p.b).Opcode)
		last := n - 1
		require.Equal(t, byte(last), x.mem[0])
	})
}

func TestQueueFull(t *testing.T) {
	pairs(t, &transport.Options{SendDepth: 4, RecvDepth: 8}, func(t *testing.T, q transport.QueuePair) { receives(t, q, 8, 1<<20) }, func(t *testing.T, p pair, d transport.Device) {
		n, err := p.a.PostRecv(make([]transport.RecvWR, 1))
		require.Zero(t, n)
		require.ErrorIs(t, err, transport.ErrQueueFull)

		b, m := allocate(t, p.a, 1<<20, 0)
		wrs := make([]transport.SendWR, 4)
		for i := range wrs {
			wrs[i] = transport.SendWR{ID: uint64(i), Flags: transport.Signaled, Data: b, Region: m}
		}
		n, err = p.a.PostSend(append(wrs, wrs...))
		if n < 8 {
			require.ErrorIs(t, err, transport.ErrQueueFull)
		}
		require.GreaterOrEqual(t, n, 4)
		for i := range n {
			require.Equal(t, uint64(i%4), next(t, p.a).ID)
			require.Equal(t, 1<<20, next(t, p.b).Bytes)
		}
	})
}

func TestAttributes(t *testing.T) {
	pairs(t, &transport.Options{SendDepth: 33, RecvDepth: 44, IRD: 3, ORD: -1}, nil, func(t *testing.T, p pair, d transport.Device) {
		a := p.a.Attributes()
		require.Equal(t, d.Name, a.Device)
		require.Equal(t, []int{33, 44, 3, 0}, []int{a.SendDepth, a.RecvDepth, a.IRD, a.ORD})
		require.Equal(t, !d.IWARP, a.Immediate)
		require.Equal(t, transport.StateRTS, p.a.State())
		require.Equal(t, p.a.RemoteAddr(), p.b.LocalAddr())
		require.Equal(t, p.b.RemoteAddr(), p.a.LocalAddr())
		require.NotZero(t, p.a.LocalAddr().Port())
	})
}
