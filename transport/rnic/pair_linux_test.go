//go:build amd64 || arm64

package rnic_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/internal/transporttest"
	"github.com/rdmanet/iwarp/transport/rnic"
)

const limit = transporttest.Limit

var (
	noDeadline = transporttest.NoDeadline
	soon       = transporttest.Soon
	limited    = transporttest.Context
	next       = transporttest.Next
	post       = transporttest.Post
	connecting = transporttest.Connecting
	rest       = transporttest.Finish // completions until the queue pair says why there are no more
)

// A pair is two connected ends: the active one, a, and the passive one, b.
type pair struct{ a, b transport.QueuePair }

// pairs runs a test for each device with a connected pair, for both ends of which prepare was
// called before they were connected.
func pairs(t *testing.T, o *transport.Options, prepare func(t *testing.T, q transport.QueuePair), test func(t *testing.T, p pair, d transport.Device)) {
	eachDevice(t, func(t *testing.T, r *rnic.Transport, d transport.Device, addr netip.Addr) {
		test(t, connect(t, r, addr, o, func(q transport.QueuePair) {
			if prepare != nil {
				prepare(t, q)
			}
		}), d)
	})
}

func connect(t testing.TB, r *rnic.Transport, addr netip.Addr, o *transport.Options, prepare func(q transport.QueuePair)) pair {
	t.Helper()
	ctx := limited(t)
	l, err := r.Listen(ctx, netip.AddrPortFrom(addr, 0), o)
	require.NoError(t, err)
	defer l.Close()
	c, err := r.Dial(ctx, netip.AddrPort{}, l.Addr(), o)
	require.NoError(t, err)
	prepare(c.QueuePair())
	dialled := connecting(ctx, c, []byte("hello"))
	s, err := l.Accept(ctx)
	require.NoError(t, err)
	prepare(s.QueuePair())
	require.NoError(t, s.Accept(ctx, []byte("welcome")))
	got := <-dialled
	require.NoError(t, got.Err)
	p := pair{c.QueuePair(), s.QueuePair()}
	t.Cleanup(func() {
		p.a.Close()
		p.b.Close()
	})
	return p
}

func allocate(t testing.TB, q transport.QueuePair, n int, access transport.Access) ([]byte, transport.MemoryRegion) {
	t.Helper()
	a, ok := transport.As[transport.MemoryAllocator](q)
	require.True(t, ok)
	b, m, err := a.AllocateMemory(n, access)
	require.NoError(t, err)
	require.Len(t, b, n)
	return b, m
}

// receives posts n receives of size bytes, whose IDs count from 0, and returns their memory.
func receives(t testing.TB, q transport.QueuePair, n, size int) []byte {
	t.Helper()
	b, m := allocate(t, q, max(n*size, 1), transport.LocalWrite)
	transporttest.PostReceives(t, q, b, m, n, size)
	return b
}

// gone waits until the device has nothing left of q.
func gone(t testing.TB, q transport.QueuePair) {
	t.Helper()
	l, ok := transport.As[transport.Leaver](q)
	require.True(t, ok)
	done := make(chan struct{})
	l.OnGone(func(bool) { close(done) })
	select {
	case <-done:
	case <-time.After(limit):
		t.Fatal("device does not let go of the queue pair")
	}
}

func pattern(n, seed int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8 + seed)
	}
	return b
}
