package soft_test

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/soft"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// limit bounds every wait of a test. It is only met by a failure.
const limit = 20 * time.Second

func soon() time.Time { return time.Now().Add(limit) }

var noDeadline time.Time

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	return ctx
}

// A pair is two connected ends: the active one, a, and the passive one, b.
type pair struct{ a, b transport.QueuePair }

// setup prepares the queue pairs before they are connected.
type setup func(a, b transport.QueuePair)

func connect(t testing.TB, ao, bo *transport.Options, prepare setup) pair {
	t.Helper()
	return connectWith(t, soft.New(nil), soft.New(nil), ao, bo, prepare)
}

func connectWith(t testing.TB, at, bt *soft.Transport, ao, bo *transport.Options, prepare setup) pair {
	t.Helper()
	ctx := testContext(t)
	ln, err := bt.Listen(ctx, netip.MustParseAddrPort("127.0.0.1:0"), bo)
	require.NoError(t, err)
	defer ln.Close()
	c, err := at.Dial(ctx, netip.AddrPort{}, ln.Addr(), ao)
	require.NoError(t, err)
	type result struct {
		private []byte
		err     error
	}
	dialled := make(chan result, 1)
	prepared := make(chan struct{})
	go func() {
		<-prepared
		p, err := c.Connect(ctx, []byte("hello"))
		dialled <- result{p, err}
	}()
	if prepare != nil {
		prepare(c.QueuePair(), nil)
	}
	close(prepared)
	r, err := ln.Accept(ctx)
	require.NoError(t, err)
	require.Equal(t, "hello", string(r.PrivateData()))
	if prepare != nil {
		prepare(nil, r.QueuePair())
	}
	require.NoError(t, r.Accept(ctx, []byte("welcome")))
	got := <-dialled
	require.NoError(t, got.err)
	require.Equal(t, "welcome", string(got.private))
	p := pair{c.QueuePair(), r.QueuePair()}
	t.Cleanup(func() {
		p.a.Close()
		p.b.Close()
	})
	return p
}

// receives posts n receives of size bytes with IDs from 0 and returns the memory that they take.
func receives(t testing.TB, q transport.QueuePair, n, size int) []byte {
	t.Helper()
	mem := make([]byte, n*size)
	r, err := q.RegisterMemory(mem, transport.LocalWrite)
	require.NoError(t, err)
	wrs := make([]transport.RecvWR, n)
	for i := range wrs {
		wrs[i] = transport.RecvWR{ID: uint64(i), Data: mem[i*size : (i+1)*size], Region: r}
	}
	got, err := q.PostRecv(wrs)
	require.NoError(t, err)
	require.Equal(t, n, got)
	return mem
}

// next waits for the next completion.
func next(t testing.TB, q transport.QueuePair) transport.Completion {
	t.Helper()
	var wc [1]transport.Completion
	for q.Poll(wc[:]) == 0 {
		require.NoError(t, q.Wait(soon()))
	}
	return wc[0]
}

func post(t testing.TB, q transport.QueuePair, wrs ...transport.SendWR) {
	t.Helper()
	n, err := q.PostSend(wrs)
	require.NoError(t, err)
	require.Equal(t, len(wrs), n)
}
