package shm

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/internal/netns"
	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/internal/transporttest"
)

// A linked has a listener, and a client that dials to it. Each pair of ends is handed out once both
// are up.
type linked struct {
	t      *testing.T
	server transport.Listener
	client *Transport
	at     netip.AddrPort
	ends   chan *queuePair
}

func newLinked(t *testing.T) *linked {
	l := &linked{t: t, client: New(nil), ends: make(chan *queuePair, 1)}
	l.client.room.keeps, l.client.room.age = patience, patience // on a busy machine all takes longer
	l.listen()
	t.Cleanup(func() {
		_ = l.server.Close()
		l.client.room.clear()
	})
	return l
}

func (l *linked) listen() {
	tr := New(nil)
	tr.serves = patience
	s, err := tr.Listen(l.t.Context(), netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), l.at.Port()), nil)
	require.NoError(l.t, err)
	l.server, l.at = s, s.Addr()
	go func() {
		for {
			r, err := s.Accept(context.Background())
			if err != nil {
				return
			}
			if r.Accept(context.Background(), nil) == nil {
				l.ends <- r.QueuePair().(*queuePair)
			}
		}
	}()
}

// dial returns both ends of a new connection.
func (l *linked) dial() (a, b *queuePair) {
	ctx, cancel := context.WithTimeout(l.t.Context(), patience)
	defer cancel()
	c, err := l.client.Dial(ctx, netip.AddrPort{}, l.at, nil)
	require.NoError(l.t, err)
	_, err = c.Connect(ctx, nil)
	require.NoError(l.t, err)
	return c.QueuePair().(*queuePair), <-l.ends
}

// ready waits until the client has a link that serves for the next connection.
func (l *linked) ready() {
	for end := time.Now().Add(patience); !l.client.room.has(site{netns.Current(), l.at}); time.Sleep(time.Millisecond) {
		require.True(l.t, time.Now().Before(end), "no link is kept")
	}
}

// TestLinkServesAgain makes the next connection of what the last one had, whichever end closes
// first and however, and nothing of the last one is in it.
func TestLinkServesAgain(t *testing.T) {
	for name, close := range map[string]func(a, b *queuePair){
		"client":  func(a, b *queuePair) { _ = a.Close(); _ = b.Close() },
		"server":  func(a, b *queuePair) { _ = b.Close(); _ = a.Close() },
		"aborted": func(a, b *queuePair) { _ = a.Abort(); _ = b.Close() },
		"resets":  func(a, b *queuePair) { _ = b.Abort(); _ = a.Abort() },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLinked(t)
			a, b := l.dial()
			first := a.sock
			a.in.way.Store(7)
			for range 3 {
				close(a, b)
				l.ready()
				a, b = l.dial()
				require.Same(t, first, a.sock)
				require.Zero(t, a.in.way.Load())
				require.Zero(t, b.in.tail.Load())
				transfer(t, a, b)
				transfer(t, b, a)
			}
			_, _ = a.Close(), b.Close()
		})
	}
}

// transfer sends a message from one end to the other.
func transfer(t *testing.T, from, to *queuePair) {
	t.Helper()
	mem := transporttest.Receives(t, to, 1, 100)
	transporttest.Post(t, from, transport.SendWR{Opcode: transport.OpSend, Flags: transport.Inline, Data: []byte("hello")})
	require.Equal(t, 5, transporttest.Next(t, to).Bytes)
	require.Equal(t, "hello", string(mem[:5]))
}

// TestLinkOfAnotherUserIsNotUsed has a process that has become another user ask on a new socket, as
// the server knows the user of the old one.
func TestLinkOfAnotherUserIsNotUsed(t *testing.T) {
	l := newLinked(t)
	a, b := l.dial()
	first := a.sock
	a.self.uid++
	_, _ = a.Close(), b.Close()
	l.ready()
	a, b = l.dial()
	require.NotSame(t, first, a.sock)
	_, _ = a.Close(), b.Close()
}

// TestLinkEndsWithTheListener leaves nobody with a link to a listener that is closed: dials go to
// the one that has its place.
func TestLinkEndsWithTheListener(t *testing.T) {
	l := newLinked(t)
	a, b := l.dial()
	first := a.sock
	_, _ = a.Close(), b.Close()
	l.ready()
	require.NoError(t, l.server.Close())
	l.listen()
	a, b = l.dial()
	require.NotSame(t, first, a.sock)
	_, _ = a.Close(), b.Close()
}

// TestLinksAreBounded keeps no more than so many, and those for a short time.
func TestLinksAreBounded(t *testing.T) {
	l := newLinked(t)
	l.client.room.keeps = linkTime
	var as, bs []*queuePair
	for range mostLinks + 3 {
		a, b := l.dial()
		as, bs = append(as, a), append(bs, b)
	}
	for i := range as {
		_, _ = as[i].Close(), bs[i].Close()
	}
	count := func() int {
		l.client.room.mu.Lock()
		defer l.client.room.mu.Unlock()
		return l.client.room.links
	}
	require.LessOrEqual(t, count(), mostLinks)
	for end := time.Now().Add(patience); count() > 0 || l.client.memory.sum.Load() > 0; time.Sleep(time.Millisecond) {
		require.True(t, time.Now().Before(end), "links are not closed")
	}
}

// TestLinkIsNotTrusted has a client write at random to the memory of a link before it asks for the
// next connection, and ask for rubbish: the server serves others.
func TestLinkIsNotTrusted(t *testing.T) {
	l := newLinked(t)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 200 {
		a, b := l.dial()
		in, out := a.in, a.tx.out
		_, _ = a.Close(), b.Close()
		l.ready()
		m := l.client.room.take(site{netns.Current(), l.at})
		if m == nil {
			continue
		}
		for range 50 {
			for _, s := range []*segment{in, out} {
				at := 8 * rng.IntN(headerSize/8)
				atomic.StoreUint64((*uint64)(ptr(s.mem, at)), rng.Uint64())
			}
		}
		if i%2 == 0 {
			g := &greeting{kind: greetingKind(rng.IntN(6)), local: a.local, remote: a.remote}
			require.NoError(t, say(m.c, g, -1))
			_ = m.c.SetReadDeadline(time.Now().Add(patience))
			if answer, _, err := hearNext(m.c); err == nil && answer.kind == consent {
				b := <-l.ends
				for range 50 {
					_ = b.Look()
				}
				_ = b.Close()
			}
		} else {
			junk := make([]byte, 1+rng.IntN(200))
			for j := range junk {
				junk[j] = byte(rng.Uint32())
			}
			_ = m.c.SetReadDeadline(time.Now().Add(patience))
			_, _ = m.c.Write(junk)
			_ = m.c.CloseWrite()
			_, _ = m.c.Read(junk)
		}
		m.close()
	}
	a, b := l.dial()
	_, _ = a.Close(), b.Close()
}

// TestPortWaitsForBothEnds tells that the addresses of a connection are free once both ends are
// done with it, or once what it had is not kept.
func TestPortWaitsForBothEnds(t *testing.T) {
	l := newLinked(t)
	left := func(q *queuePair) chan bool {
		c := make(chan bool, 2)
		q.OnGone(func(both bool) { c <- both })
		return c
	}
	a, b := l.dial()
	gone := left(a)
	require.NoError(t, a.Close())
	require.Empty(t, gone, "the server still has it")
	late := left(a)
	require.NoError(t, b.Close())
	l.ready()
	require.True(t, <-gone)
	require.True(t, <-late)
	require.True(t, <-left(a), "at once")

	a, b = l.dial()
	gone = left(a)
	require.NoError(t, a.Close())
	require.True(t, l.client.room.clear())
	require.False(t, <-gone, "the server still has it")
	require.NoError(t, b.Close())

	a, b = l.dial()
	gone = left(a)
	require.False(t, a.Forgo(), "it is not over")
	require.NoError(t, a.Close())
	require.False(t, a.Forgo(), "the server still has it")
	require.Empty(t, gone)
	require.NoError(t, b.Close())
	require.Eventually(t, a.Forgo, time.Minute, time.Millisecond)
	require.False(t, <-gone)
}
