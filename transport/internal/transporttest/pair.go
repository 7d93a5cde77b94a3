// Package transporttest has what the tests of all transports need, and what every transport must
// do. It is for tests only.
package transporttest

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport"
)

// Limit bounds every wait of a test. It is only met by a failure.
const Limit = 20 * time.Second

// Soon is the deadline of a wait that is not to fail.
func Soon() time.Time { return time.Now().Add(Limit) }

// NoDeadline is that of a wait which another event ends.
var NoDeadline time.Time

// Context is done when the test is over, or after Limit.
func Context(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), Limit)
	t.Cleanup(cancel)
	return ctx
}

// Loopback has a listener find a port.
var Loopback = netip.MustParseAddrPort("127.0.0.1:0")

// A Pair is two connected ends: the active one, A, and the passive one, B.
type Pair struct{ A, B transport.QueuePair }

// Setup prepares the queue pairs before they are connected. It is called for each, with nil for the
// other.
type Setup func(a, b transport.QueuePair)

// Connect makes a pair whose ends are at a listener of bt and a dial of at.
func Connect(t testing.TB, at, bt transport.Transport, ao, bo *transport.Options, listenAt netip.AddrPort, prepare Setup) Pair {
	t.Helper()
	ctx := Context(t)
	ln, err := bt.Listen(ctx, listenAt, bo)
	require.NoError(t, err)
	defer ln.Close()
	c, err := at.Dial(ctx, netip.AddrPort{}, ln.Addr(), ao)
	require.NoError(t, err)
	if prepare != nil {
		prepare(c.QueuePair(), nil)
	}
	dialed := Connecting(ctx, c, []byte("hello"))
	r, err := ln.Accept(ctx)
	require.NoError(t, err)
	require.Equal(t, "hello", string(r.PrivateData()))
	if prepare != nil {
		prepare(nil, r.QueuePair())
	}
	require.NoError(t, r.Accept(ctx, []byte("welcome")))
	got := <-dialed
	require.NoError(t, got.Err)
	require.Equal(t, "welcome", string(got.Private))
	p := Pair{c.QueuePair(), r.QueuePair()}
	t.Cleanup(func() {
		_ = p.A.Close()
		_ = p.B.Close()
	})
	return p
}

// Connected is what Connect of a transport.Connector has returned.
type Connected struct {
	Private []byte
	Err     error
}

// Connecting calls Connect in a goroutine.
func Connecting(ctx context.Context, c transport.Connector, private []byte) <-chan Connected {
	done := make(chan Connected, 1)
	go func() {
		p, err := c.Connect(ctx, private)
		done <- Connected{p, err}
	}()
	return done
}

// Register registers memory.
func Register(t testing.TB, q transport.QueuePair, mem []byte, access transport.Access) transport.MemoryRegion {
	t.Helper()
	r, err := q.RegisterMemory(mem, access)
	require.NoError(t, err)
	return r
}

// Receives posts n receives of size bytes with IDs from 0 and returns the memory that they take.
func Receives(t testing.TB, q transport.QueuePair, n, size int) []byte {
	t.Helper()
	mem := make([]byte, max(n*size, 1))
	PostReceives(t, q, mem, Register(t, q, mem, transport.LocalWrite), n, size)
	return mem
}

// PostReceives posts n receives of size bytes with IDs from 0 in mem, which is that of r.
func PostReceives(t testing.TB, q transport.QueuePair, mem []byte, r transport.MemoryRegion, n, size int) {
	t.Helper()
	wrs := make([]transport.RecvWR, n)
	for i := range wrs {
		wrs[i] = transport.RecvWR{ID: uint64(i), Data: mem[i*size : (i+1)*size], Region: r}
	}
	got, err := q.PostRecv(wrs)
	require.NoError(t, err)
	require.Equal(t, n, got)
}

// Next waits for the next completion.
func Next(t testing.TB, q transport.QueuePair) transport.Completion {
	t.Helper()
	var wc [1]transport.Completion
	for q.Poll(wc[:]) == 0 {
		require.NoError(t, q.Wait(Soon()))
	}
	return wc[0]
}

// Finish waits for the end of q, and returns its completions and the error of Wait.
func Finish(t testing.TB, q transport.QueuePair) (all []transport.Completion, err error) {
	t.Helper()
	for {
		var wc [16]transport.Completion
		n := q.Poll(wc[:])
		all = append(all, wc[:n]...)
		if n > 0 {
			continue
		}
		if err := q.Wait(Soon()); err != nil {
			require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
			return all, err
		}
	}
}

// Post posts requests, all of which must be taken.
func Post(t testing.TB, q transport.QueuePair, wrs ...transport.SendWR) {
	t.Helper()
	n, err := q.PostSend(wrs)
	require.NoError(t, err)
	require.Equal(t, len(wrs), n)
}

// Interrupted interrupts q until n calls have ended, each of which says so on ended. One that has
// not begun yet may miss an interrupt that another has taken, so there may have to be several.
func Interrupted(t testing.TB, q transport.QueuePair, n int, ended <-chan error) {
	t.Helper()
	for n > 0 {
		q.Interrupt()
		select {
		case err := <-ended:
			require.Equal(t, transport.ErrInterrupted, err)
			n--
		case <-time.After(time.Millisecond):
		}
	}
}

// Random returns n bytes that are always the same for n.
func Random(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(n), byte(n >> 8)})
	_, _ = r.Read(b)
	return b
}
