package rdmanet_test

import (
	"bytes"
	"io"
	"math"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/rdmanet"
	"github.com/rdmanet/iwarp/transport"
)

// say writes one byte to the stream, and hear waits for it: what was done before is known to the
// other end then.
func say(t testing.TB, c *rdmanet.Conn) {
	t.Helper()
	_, err := c.Write([]byte{1})
	require.NoError(t, err)
}

func hear(t testing.TB, c *rdmanet.Conn) {
	t.Helper()
	_, err := io.ReadFull(c, make([]byte, 1))
	require.NoError(t, err)
}

func TestWriteAt(t *testing.T) {
	forSettings(t, func(t *testing.T, x, y *rdmanet.Conn) {
		const n = 300000
		r, err := y.Expose(1<<40, n)
		require.NoError(t, err)
		require.EqualValues(t, 1<<40, r.Offset())
		require.Equal(t, make([]byte, n), r.Bytes())
		next, err := y.Expose(1<<40+n, 10)
		require.NoError(t, err)
		say(t, y)
		hear(t, x)
		want := pattern(n + 8)
		k, err := x.WriteAt(want, 1<<40) // across the border of the two
		require.NoError(t, err)
		require.Equal(t, n+8, k)
		k, err = x.WriteAt([]byte("in between"), 1<<40+5)
		require.NoError(t, err)
		require.Equal(t, 10, k)
		copy(want[5:], "in between")
		say(t, x)
		hear(t, y)
		require.True(t, bytes.Equal(want[:n], r.Bytes()))
		require.Equal(t, append(want[n:n+8:n+8], 0, 0), next.Bytes())
	})
}

func TestWriteAtBounds(t *testing.T) {
	e := connect(t, setting{})
	_, err := e.a.WriteAt([]byte("x"), 0)
	requireOpError(t, e.a, err, "writeat", rdmanet.ErrNotExposed)
	r, err := e.b.Expose(100, 10)
	require.NoError(t, err)
	say(t, e.b)
	hear(t, e.a)
	for _, c := range []struct {
		off  int64
		n, k int
	}{{99, 1, 0}, {100, 11, 10}, {109, 1, 1}, {109, 2, 1}, {110, 1, 0}, {math.MaxInt64, 2, 0}, {105, 0, 0}} {
		k, err := e.a.WriteAt(make([]byte, c.n), c.off)
		require.Equal(t, c.k, k, "%d bytes at %d", c.n, c.off)
		if k < c.n {
			requireOpError(t, e.a, err, "writeat", rdmanet.ErrNotExposed)
		} else {
			require.NoError(t, err)
		}
	}
	_, err = e.a.WriteAt([]byte("x"), -1)
	require.ErrorContains(t, err, "out of range; use")
	for _, c := range []struct {
		off int64
		n   int
	}{{-1, 1}, {0, 0}, {0, -1}, {math.MaxInt64, 1}} {
		_, err := e.b.Expose(c.off, c.n)
		require.ErrorContains(t, err, "out of range; use", "%d bytes at %d", c.n, c.off)
	}
	for _, off := range []int64{91, 100, 109} {
		_, err := e.b.Expose(off, 10)
		require.ErrorContains(t, err, "close that region first")
	}
	for i := range 15 {
		_, err := e.b.Expose(int64(200+i), 1)
		require.NoError(t, err)
	}
	_, err = e.b.Expose(300, 1)
	require.ErrorContains(t, err, "no free entry")
	// The stream is none the worse for it.
	say(t, e.a)
	hear(t, e.b)
	require.NoError(t, e.b.Close())
	require.NoError(t, r.Close(), "after the connection's end there is nobody to ask")
	requireClosed := func(err error) { requireOpError(t, e.b, err, "revoke", net.ErrClosed) }
	requireClosed(r.Close())
	_, err = e.b.Expose(0, 1)
	requireOpError(t, e.b, err, "expose", net.ErrClosed)
}

// One end writes all the time while the other takes memory back and exposes it anew, at the same
// entry: no write may go to memory that is gone, which would end the connection.
func TestRevoke(t *testing.T) {
	for _, s := range settings {
		if s.client.Plain || s.server.Plain {
			continue // an rsocket confirms nothing
		}
		t.Run(s.name, func(t *testing.T) {
			e := connect(t, s)
			var wg sync.WaitGroup
			wg.Go(func() { io.Copy(io.Discard, e.a) }) // what confirms
			wg.Go(func() { io.Copy(io.Discard, e.b) })
			done := make(chan struct{})
			writer := background(t, func() {
				p := bytes.Repeat([]byte{7}, 5000)
				for {
					select {
					case <-done:
						return
					default:
					}
					n, err := e.a.WriteAt(p, 64)
					if n < len(p) {
						requireOpError(t, e.a, err, "writeat", rdmanet.ErrNotExposed)
					}
				}
			})
			for range 50 {
				r, err := e.b.Expose(64, 5000)
				require.NoError(t, err)
				e.b.SetWriteDeadline(time.Now().Add(limit))
				require.NoError(t, r.Close())
			}
			close(done)
			writer()
			require.NoError(t, e.a.CloseWrite())
			require.NoError(t, e.b.CloseWrite())
			wg.Wait()
			require.NoError(t, e.a.Close())
		})
	}
}

// Close of a region waits for the peer as long as the write deadline says, and can be called again.
func TestRevokeDeadline(t *testing.T) {
	e := connect(t, setting{})
	r, err := e.b.Expose(0, 100)
	require.NoError(t, err)
	say(t, e.b)
	hear(t, e.a)
	require.NoError(t, e.b.SetWriteDeadline(time.Now().Add(30*time.Millisecond)))
	requireTimeout(t, r.Close(), "revoke") // nobody reads at the other end
	_, err = e.a.WriteAt([]byte("still there"), 0)
	require.NoError(t, err)
	require.NoError(t, e.b.SetWriteDeadline(time.Time{}))
	wait := background(t, func() { io.Copy(io.Discard, e.a) })
	require.NoError(t, r.Close())
	_, err = e.a.WriteAt([]byte("gone"), 0)
	require.ErrorIs(t, err, rdmanet.ErrNotExposed)
	require.NoError(t, e.b.Close())
	wait()
}

// Towards an rsocket, what is written into its table, and what goes to memory that it has exposed.
func TestIomapOnTheWire(t *testing.T) {
	offer := func(n byte) func([]byte) []byte {
		return func(b []byte) []byte { b[7] = n; return b }
	}
	t.Run("no table", func(t *testing.T) {
		_, c, _ := dialRaw(t, nil, nil)
		_, err := c.Expose(0, 10)
		require.ErrorContains(t, err, "RDMA_IOMAPSIZE")
	})
	for name, big := range map[string]byte{"little-endian": 0, "big-endian": 1} {
		t.Run(name, func(t *testing.T) {
			p, c, _ := dialRaw(t, nil, func(b []byte) []byte { b[1] |= big; return offer(2)(b) })
			r, err := c.Expose(0x0102030405060708, 77)
			require.NoError(t, err)
			p.expectBesideLimits(wordIomap)
			entry := p.table[32:56]
			require.EqualValues(t, 0x0102030405060708, p.bytes.Uint64(entry))
			require.EqualValues(t, 77, p.bytes.Uint32(entry[20:]))
			p.post(transport.SendWR{Opcode: transport.OpWrite, Data: []byte("placed"),
				RemoteSTag: transport.STag(p.bytes.Uint32(entry[16:])), RemoteOffset: p.bytes.Uint64(entry[8:]) + 3})
			p.data([]byte("x"))
			hear(t, c)
			require.Equal(t, "\x00\x00\x00placed\x00", string(r.Bytes()[:10]))
			_, err = c.Expose(0, 1)
			require.NoError(t, err)
			p.expectBesideLimits(wordIomap | 1)
			require.NoError(t, r.Close(), "an rsocket confirms nothing")
			_, err = c.Expose(5, 1)
			require.NoError(t, err)
			p.expectBesideLimits(wordIomap)
			require.EqualValues(t, 5, p.bytes.Uint64(p.table[32:]), "the entry is used again")

			p.expose(15, 1000, p.ringMR, 20)
			p.data([]byte("x"))
			hear(t, c)
			n, err := c.WriteAt(bytes.Repeat([]byte{9}, 30), 1010)
			require.Equal(t, 10, n)
			require.ErrorIs(t, err, rdmanet.ErrNotExposed)
			_, err = c.Write([]byte("y"))
			require.NoError(t, err)
			p.expectBesideLimits(1)
			require.Equal(t, append([]byte{'y'}, make([]byte, 9)...), p.ring[:10])
			require.Equal(t, append(bytes.Repeat([]byte{9}, 10), 0), p.ring[10:21], "no word goes with it")
		})
	}
}

// A word about exposed memory takes a receive that a plain rsocket has not set aside, so only some
// are sent before it says more.
func TestIomapWordsAreFew(t *testing.T) {
	p, c, _ := dialRaw(t, nil, func(b []byte) []byte { b[7] = 128; return b })
	require.NoError(t, c.SetWriteDeadline(time.Now().Add(300*time.Millisecond)))
	n := 0
	for ; ; n++ {
		if _, err := c.Expose(int64(n), 1); err != nil {
			requireTimeout(t, err, "expose")
			break
		}
	}
	require.Equal(t, rawCredits/8/2, n, "half of what is in reserve")
	require.NoError(t, c.SetWriteDeadline(time.Time{}))
	p.send(wordLimit | rawCredits)
	_, err := c.Expose(int64(n), 1)
	require.NoError(t, err)
}
