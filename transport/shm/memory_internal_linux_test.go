package shm

import (
	"bufio"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/transport"
)

// resident is how many bytes of the memory of two ends are there.
func resident(t testing.TB, a, b *made) (bytes int) {
	t.Helper()
	ours := make(map[string]bool)
	for _, s := range []*segment{a.in, a.tx.out, b.in, b.tx.out} {
		ours[strconv.FormatUint(uint64(uintptr(unsafe.Pointer(&s.mem[0]))), 16)] = true
	}
	f, err := os.Open("/proc/self/smaps")
	require.NoError(t, err)
	defer f.Close()
	counts := false
	for s := bufio.NewScanner(f); s.Scan(); {
		field := strings.Fields(s.Text())
		switch {
		case !strings.HasSuffix(field[0], ":"):
			start, _, _ := strings.Cut(field[0], "-")
			counts = ours[start]
		case counts && field[0] == "Pss:":
			n, err := strconv.Atoi(field[1])
			require.NoError(t, err)
			bytes += n << 10
		}
	}
	return bytes
}

// idle has the connections be looked at that may be idle, until no more than most bytes of this one
// are there.
func idle(t testing.TB, a, b *made, most int) {
	t.Helper()
	for end := time.Now().Add(patience); resident(t, a, b) > most; {
		require.True(t, time.Now().Before(end), "%d bytes are there", resident(t, a, b))
		trims.look()
	}
}

// TestIdleMemory gives back what a busy connection has used.
func TestIdleMemory(t *testing.T) {
	a, b, mem, ring := ringed(t, 4*ringSize)
	data := make([]byte, len(mem))
	for round := range 3 {
		for i := range data {
			data[i] = byte(i>>8 + i + round)
		}
		_, err := a.PostSend(writeOf(ring, data, transport.WillDrain))
		require.NoError(t, err)
		for end := time.Now().Add(patience); resident(t, a, b) <= ringSize/2; { // some may still be being given back
			require.True(t, time.Now().Before(end))
		}
		trims.look()
		trims.look() // nothing of what is to be read is taken away
		var all sync.WaitGroup
		all.Go(func() {
			last := len(data) - 8
			for end := time.Now().Add(patience); string(mem[last:]) != string(data[last:]) && time.Now().Before(end); {
				b.Look()
			}
		})
		require.NoError(t, a.Drain(time.Now().Add(patience)))
		all.Wait()
		require.Equal(t, data, mem)
		idle(t, a, b, 8<<10)
	}
}

// TestSmallMessagesTakeLittleMemory has them use the front of the ring if the peer waits for each,
// and one page once they end.
func TestSmallMessagesTakeLittleMemory(t *testing.T) {
	a, b, _, ring := ringed(t, 4*ringSize)
	for i := range 1000 {
		b.in.reader.Store([]uint32{asleep, looking}[i/500])
		_, err := a.PostSend(writeOf(ring, make([]byte, 64), transport.WillDrain))
		require.NoError(t, err)
		require.True(t, b.Look())
	}
	require.Equal(t, uint32(looking), b.in.reader.Load(), "one who looks need not be woken")
	require.LessOrEqual(t, resident(t, a, b), rewindAt+8<<10)
	for _, q := range []*made{a, b} {
		require.Equal(t, 1000*recordLen(64), q.moved(), "what is left out of the ring does not count")
	}
	idle(t, a, b, 8<<10)
}

// begun begins to give back memory, as whoever does that may be delayed by the peer.
func begun(t testing.TB, a *made) *segment {
	t.Helper()
	out, done := a.beginTrim() // it has sent nothing yet
	require.True(t, done)
	require.NotNil(t, out)
	return out
}

// TestPeerThatDoesNotRead takes as much as the ring has room for, whatever came before.
func TestPeerThatDoesNotRead(t *testing.T) {
	a, b, _, ring := ringed(t, 4*ringSize)
	for n := range 40 {
		_, err := a.PostSend(writeOf(ring, make([]byte, 1000), transport.WillDrain))
		require.NoError(t, err)
		require.True(t, b.Look(), "%d", n)
	}
	for range 20 {
		_, err := a.PostSend(writeOf(ring, make([]byte, 9000), transport.WillDrain))
		require.NoError(t, err)
		require.NoError(t, a.Drain(past))
	}
}

// TestWritesWhileMemoryIsGivenBack wait for that, and no longer.
func TestWritesWhileMemoryIsGivenBack(t *testing.T) {
	a, b, mem, ring := ringed(t, ringSize)
	data := make([]byte, len(mem))
	data[0] = 1
	out := begun(t, a)
	_, err := a.PostSend(writeOf(ring, data[:1000], transport.WillDrain))
	require.NoError(t, err)
	require.ErrorIs(t, a.Drain(time.Now().Add(10*time.Millisecond)), os.ErrDeadlineExceeded)
	drained := make(chan error, 1)
	go func() { drained <- a.Drain(time.Now().Add(patience)) }()
	a.endTrim(out)
	require.NoError(t, <-drained)
	b.Look()
	require.Equal(t, byte(1), mem[0])
}

// TestCloseWhileMemoryIsGivenBack leaves the mapping to whoever does that.
func TestCloseWhileMemoryIsGivenBack(t *testing.T) {
	a, _, _, _ := ringed(t, ringSize)
	out := begun(t, a)
	require.NoError(t, a.Abort())
	require.NotNil(t, out.mem)
	require.NoError(t, unix.Madvise(out.mem, unix.MADV_REMOVE))
	a.endTrim(out)
	require.Nil(t, out.mem)
}

// TestCloseSendsWhatWaitsForATrim before it returns, if the trim ends soon.
func TestCloseSendsWhatWaitsForATrim(t *testing.T) {
	defer func(d time.Duration) { trimPatience = d }(trimPatience)
	trimPatience = patience
	a, b, mem, ring := ringed(t, ringSize)
	out := begun(t, a)
	_, err := a.PostSend(writeOf(ring, []byte{1}, 0))
	require.NoError(t, err)
	closed := make(chan error, 1)
	go func() { closed <- a.Close() }()
	for waited := false; !waited; runtime.Gosched() {
		select {
		case <-closed:
			t.Fatal("Close did not wait")
		default:
		}
		a.tx.mu.Lock()
		waited = a.tx.trimmed != nil
		a.tx.mu.Unlock()
	}
	a.endTrim(out)
	require.NoError(t, <-closed)
	require.EqualValues(t, endClosed, b.in.end.Load())
	b.Look()
	require.Equal(t, byte(1), mem[0])
}

// TestCloseDuringALongTrim does not wait for its end, and what was posted arrives after it.
func TestCloseDuringALongTrim(t *testing.T) {
	a, b, mem, ring := ringed(t, ringSize)
	out := begun(t, a)
	_, err := a.PostSend(writeOf(ring, []byte{1}, 0))
	require.NoError(t, err)
	require.NoError(t, a.Close())
	a.endTrim(out)
	for end := time.Now().Add(patience); mem[0] == 0; runtime.Gosched() {
		require.True(t, time.Now().Before(end), "nothing has come")
		b.Look()
	}
}

// fill has a use more of b's memory than the first page.
func fill(t testing.TB, a *made, ring transport.MemoryRegion) {
	t.Helper()
	_, err := a.PostSend(writeOf(ring, make([]byte, 2*firstSize), transport.WillDrain))
	require.NoError(t, err)
	a.tx.mu.Lock()
	defer a.tx.mu.Unlock()
	require.True(t, a.tx.wide)
}

// looked reports whether the memory of a connection is to be given back.
func looked(q *made) bool {
	trims.mu.Lock()
	defer trims.mu.Unlock()
	_, wide := trims.wide[q.queuePair]
	_, due := trims.due[q.queuePair]
	return wide || due
}

// TestTrimsOfClosedConnections are forgotten, also while peers delay all that give memory back.
func TestTrimsOfClosedConnections(t *testing.T) {
	a, b, _, ring := ringed(t, ringSize)
	c, d, _, other := ringed(t, ringSize)
	delayed := func(n int) (was int) {
		trims.mu.Lock()
		defer trims.mu.Unlock()
		was = trims.running
		if was == 0 || n == 0 {
			trims.running = n
		}
		return was
	}
	for end := time.Now().Add(patience); delayed(mostTrimmers) > 0; runtime.Gosched() {
		require.True(t, time.Now().Before(end))
	}
	defer delayed(0)
	fill(t, a, ring)
	trims.look() // a is due
	fill(t, c, other)
	require.True(t, looked(a))
	require.True(t, looked(c))
	for _, q := range []*made{a, b, c, d} {
		require.NoError(t, q.Abort())
	}
	require.False(t, looked(a))
	require.False(t, looked(c))
}

// TestNoTrimForAStranger gives back only the memory of peers that have power over the process
// anyway.
func TestNoTrimForAStranger(t *testing.T) {
	var ring transport.MemoryRegion
	a, _ := pairOf(t, fullRing, func(a, b *queuePair) {
		a.cred.Uid++
		if a.cred.Uid == 0 {
			a.cred.Uid++
		}
		var err error
		ring, err = b.RegisterMemory(make([]byte, ringSize), transport.RemoteWrite|transport.CallerDriven)
		require.NoError(t, err)
	})
	fill(t, a, ring)
	require.False(t, looked(a))
}

// TestFaultBeforeATrim ends the connection.
func TestFaultBeforeATrim(t *testing.T) {
	a, _, _, _ := ringed(t, ringSize)
	mem := a.tx.out.mem
	require.NoError(t, unix.Mprotect(mem, unix.PROT_NONE))
	out, done := a.beginTrim()
	require.NoError(t, unix.Mprotect(mem, unix.PROT_READ|unix.PROT_WRITE))
	require.Nil(t, out)
	require.False(t, done)
	require.ErrorIs(t, a.Wait(time.Now().Add(patience)), syscall.ENOMEM)
}

// TestBudget has connections get smaller rings, and then none.
func TestBudget(t *testing.T) {
	b := budget{limit: 1 << 20}
	var rings []int
	for ring := b.take(); ring > 0; ring = b.take() {
		rings = append(rings, ring>>10)
	}
	require.Equal(t, []int{256, 256, 128, 128, 64, 64, 64, 64}, rings)
	b.give(64 << 10)
	require.Equal(t, 64<<10, b.take())
}

// TestNoMemoryLeft goes on with plain TCP where either end may have no more memory.
func TestNoMemoryLeft(t *testing.T) {
	for name, tt := range map[string]struct {
		client, server int64
		reason         iwarp.Reason
	}{
		"client": {client: leastRing - 1, reason: iwarp.ReasonLimit},
		"server": {server: leastRing - 1, reason: iwarp.ReasonNoRoute},
	} {
		t.Run(name, func(t *testing.T) {
			lc := iwarp.ListenConfig{Transports: []transport.Transport{New(&Config{MaxMemory: tt.server})}}
			l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
			require.NoError(t, err)
			defer l.Close()
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					_ = c.Close()
				}
			}()
			for _, policy := range []iwarp.Offload{iwarp.OffloadAuto, iwarp.OffloadPrefer, iwarp.OffloadRequire} {
				d := iwarp.Dialer{Timeout: patience, Offload: policy, Transports: []transport.Transport{New(&Config{MaxMemory: tt.client})}}
				c, err := d.Dial("tcp", l.Addr().String())
				if policy == iwarp.OffloadRequire {
					var oe *iwarp.OffloadError
					require.ErrorAs(t, err, &oe)
					require.Equal(t, tt.reason, oe.Reason, err)
					continue
				}
				require.NoError(t, err)
				info, _ := iwarp.Describe(c)
				require.Equal(t, tt.reason, info.Reason)
				if name == "client" {
					require.ErrorIs(t, info.Err, syscall.ENOBUFS)
				}
				require.NoError(t, c.Close())
			}
		})
	}
}

// TestMemoryIsReturned has what a connection may use be there for the next one.
func TestMemoryIsReturned(t *testing.T) {
	tr := New(&Config{MaxMemory: 2 * leastRing})
	l, err := tr.Listen(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"), nil)
	require.NoError(t, err)
	defer l.Close()
	for range 5 {
		k, err := tr.Dial(t.Context(), netip.AddrPort{}, l.Addr(), nil)
		require.NoError(t, err)
		accepted := make(chan transport.QueuePair, 1)
		go func() {
			r, err := l.Accept(t.Context())
			if err == nil {
				err = r.Accept(t.Context(), nil)
				accepted <- r.QueuePair()
			}
			if err != nil {
				t.Error(err)
			}
		}()
		_, err = k.Connect(t.Context(), nil)
		require.NoError(t, err)
		require.NoError(t, k.QueuePair().Close())
		require.NoError(t, (<-accepted).Close())
	}
	require.Zero(t, tr.memory.sum.Load())
}
