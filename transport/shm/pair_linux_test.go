package shm_test

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/shm"
)

func TestMain(m *testing.M) {
	if runAsChild() {
		return
	}
	goleak.VerifyTestMain(settling{m})
}

// settling gives net/http the time that it takes after its connections.
type settling struct{ *testing.M }

func (m settling) Run() int {
	code := m.M.Run()
	for end := time.Now().Add(5 * time.Second); goleak.Find() != nil && time.Now().Before(end); {
	}
	return code
}

// limit bounds every wait of a test. It is only met by a failure.
const limit = 20 * time.Second

func soon() time.Time { return time.Now().Add(limit) }

var noDeadline time.Time

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	return ctx
}

var loopback = netip.MustParseAddrPort("127.0.0.1:0")

// A pair is two connected ends: the active one, a, and the passive one, b.
type pair struct{ a, b transport.QueuePair }

// setup prepares the queue pairs before they are connected.
type setup func(a, b transport.QueuePair)

func connect(t testing.TB, ao, bo *transport.Options, prepare setup) pair {
	t.Helper()
	return connectWith(t, shm.New(nil), shm.New(nil), ao, bo, prepare)
}

func connectWith(t testing.TB, at, bt *shm.Transport, ao, bo *transport.Options, prepare setup) pair {
	t.Helper()
	ctx := testContext(t)
	ln, err := bt.Listen(ctx, loopback, bo)
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

func register(t testing.TB, q transport.QueuePair, mem []byte, access transport.Access) transport.MemoryRegion {
	t.Helper()
	r, err := q.RegisterMemory(mem, access)
	require.NoError(t, err)
	return r
}

// receives posts n receives of size bytes with IDs from 0 and returns the memory that they take.
func receives(t testing.TB, q transport.QueuePair, n, size int) []byte {
	t.Helper()
	mem := make([]byte, max(n*size, 1))
	r := register(t, q, mem, transport.LocalWrite)
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

// finish waits for the end of q, and returns its completions and the error of Wait.
func finish(t testing.TB, q transport.QueuePair) (all []transport.Completion, err error) {
	t.Helper()
	for {
		err := q.Wait(soon())
		if err != nil {
			return all, err
		}
		var wc [8]transport.Completion
		all = append(all, wc[:q.Poll(wc[:])]...)
	}
}

func post(t testing.TB, q transport.QueuePair, wrs ...transport.SendWR) {
	t.Helper()
	n, err := q.PostSend(wrs)
	require.NoError(t, err)
	require.Equal(t, len(wrs), n)
}
