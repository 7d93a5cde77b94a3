package rdmanet_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/rdmanet"
)

func TestExtendedOnlyIfBothEndsAre(t *testing.T) {
	for _, s := range settings {
		t.Run(s.name, func(t *testing.T) {
			e := connect(t, s)
			want := !s.client.Plain && !s.server.Plain
			require.Equal(t, want, e.a.Extended())
			require.Equal(t, want, e.b.Extended())
		})
	}
}

func TestStream(t *testing.T) {
	forSettings(t, func(t *testing.T, x, y *rdmanet.Conn) {
		want := pattern(3 << 20)
		wait := background(t, func() {
			rnd := rand.New(rand.NewPCG(3, 3))
			for p := want; len(p) > 0; {
				n := min(len(p), 1+rnd.IntN(1+rnd.IntN(200000)))
				if k, err := x.Write(p[:n]); k != n || err != nil {
					t.Errorf("Write of %d: %d, %v", n, k, err)
					break
				}
				p = p[n:]
			}
			x.CloseWrite()
		})
		rnd := rand.New(rand.NewPCG(4, 4))
		var got []byte
		for {
			b := make([]byte, 1+rnd.IntN(1+rnd.IntN(200000)))
			n, err := y.Read(b)
			got = append(got, b[:n]...)
			if err != nil {
				require.Equal(t, io.EOF, err)
				break
			}
			require.Positive(t, n)
		}
		wait()
		require.True(t, bytes.Equal(want, got), "%d of %d bytes, or others", len(got), len(want))
	})
}

func TestLargeWrite(t *testing.T) {
	if testing.Short() {
		t.Skip("moves 100 MB; run without -short")
	}
	for _, s := range settings[:2] {
		t.Run(s.name, func(t *testing.T) {
			e := connect(t, s)
			want := pattern(100 << 20)
			wait := background(t, func() {
				n, err := e.a.Write(want)
				if n != len(want) || err != nil {
					t.Errorf("Write: %d, %v", n, err)
				}
				e.a.Close()
			})
			got := make([]byte, len(want)+1)
			n, err := io.ReadFull(e.b, got)
			require.Equal(t, io.ErrUnexpectedEOF, err)
			wait()
			require.True(t, bytes.Equal(want, got[:n]))
		})
	}
}

func TestSmallWrites(t *testing.T) {
	forSettings(t, func(t *testing.T, x, y *rdmanet.Conn) {
		want := pattern(5000)
		wait := background(t, func() {
			for i := range want {
				if n, err := x.Write(want[i : i+1]); n != 1 || err != nil {
					t.Errorf("Write %d: %d, %v", i, n, err)
					return
				}
			}
		})
		got := make([]byte, len(want))
		_, err := io.ReadFull(y, got)
		require.NoError(t, err)
		wait()
		require.True(t, bytes.Equal(want, got))
	})
}

// The credits that were asked for are there from the start, whatever the other end does.
func TestCreditsWithoutReader(t *testing.T) {
	for _, plain := range []bool{false, true} {
		conf := rdmanet.Config{Credits: 200, Plain: plain}
		e := connect(t, setting{client: conf, server: conf})
		for _, c := range []*rdmanet.Conn{e.a, e.b} {
			require.NoError(t, c.SetWriteDeadline(time.Now().Add(limit)))
			for i := range 150 {
				_, err := c.Write([]byte("small"))
				require.NoError(t, err, "Write %d", i)
			}
		}
	}
}

// A Read returns what several Writes have sent.
func TestReadCrossesMessages(t *testing.T) {
	forSettings(t, func(t *testing.T, x, y *rdmanet.Conn) {
		for _, p := range []string{"one ", "two ", "three"} {
			_, err := x.Write([]byte(p))
			require.NoError(t, err)
		}
		// What has been sent before this answer was asked for is there when it comes.
		b := make([]byte, 100)
		var got []byte
		for len(got) < len("one two three") {
			n, err := y.Read(b)
			require.NoError(t, err)
			got = append(got, b[:n]...)
		}
		require.Equal(t, "one two three", string(got))

		_, err := x.Write([]byte("aaaa"))
		require.NoError(t, err)
		_, err = x.Write([]byte("bbbb"))
		require.NoError(t, err)
		_, err = io.ReadFull(y, b[:1]) // both have arrived now, or the second comes soon
		require.NoError(t, err)
		_, err = io.ReadFull(y, b[1:8])
		require.NoError(t, err)
		require.Equal(t, "aaaabbbb", string(b[:8]))
	})
}

func TestEmptyReadAndWrite(t *testing.T) {
	forSettings(t, func(t *testing.T, x, y *rdmanet.Conn) {
		n, err := x.Write(nil)
		require.Zero(t, n)
		require.NoError(t, err)
		n, err = y.Read(nil)
		require.Zero(t, n)
		require.NoError(t, err)
		_, err = x.Write([]byte("x"))
		require.NoError(t, err)
		b := make([]byte, 4)
		n, err = y.Read(b)
		require.Equal(t, 1, n, "an empty Write must not look like the end")
		require.NoError(t, err)
		require.NoError(t, y.SetReadDeadline(time.Unix(1, 0)))
		_, err = y.Read(nil)
		require.NoError(t, err, "there is nothing to wait for, as with a socket")
		require.NoError(t, x.Close())
		_, err = x.Write(nil)
		require.ErrorIs(t, err, net.ErrClosed)
		_, err = x.Read(nil)
		require.ErrorIs(t, err, net.ErrClosed)
	})
}

// Two ends that only write must both get as far as their peer has room, whatever the sockets below
// hold.
func TestBothOnlyWrite(t *testing.T) {
	for _, s := range settings {
		t.Run(s.name, func(t *testing.T) {
			e := connect(t, s)
			n := 100 << 10
			switch {
			case s.client.RingSize > 0:
				n = 4000
			case s.onlyServer: // which may be done writing, and then does not enlarge its ring
				n = 30 << 10
			}
			var wg sync.WaitGroup
			want := pattern(n)
			for _, c := range []*rdmanet.Conn{e.a, e.b} {
				wg.Go(func() {
					if k, err := c.Write(want); k != n || err != nil {
						t.Errorf("Write: %d, %v", k, err)
					}
				})
			}
			background(t, wg.Wait)()
			for _, c := range []*rdmanet.Conn{e.a, e.b} {
				got := make([]byte, n)
				_, err := io.ReadFull(c, got)
				require.NoError(t, err)
				require.True(t, bytes.Equal(want, got))
			}
		})
	}
}

func TestBothDirections(t *testing.T) {
	for _, s := range settings {
		t.Run(s.name, func(t *testing.T) {
			e := connect(t, s)
			want := pattern(2 << 20)
			var wg sync.WaitGroup
			for i, c := range []*rdmanet.Conn{e.a, e.b} {
				wg.Go(func() {
					for p := want; len(p) > 0; {
						n := min(len(p), 1+(len(p)*7+i)%50000)
						if _, err := c.Write(p[:n]); err != nil {
							t.Errorf("Write: %v", err)
							return
						}
						p = p[n:]
					}
				})
				wg.Go(func() {
					got := make([]byte, len(want))
					if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(want, got) {
						t.Errorf("Read: %v", err)
					}
				})
			}
			background(t, wg.Wait)()
		})
	}
}

// Writes of several goroutines must come out one after another.
func TestWritesDoNotInterleave(t *testing.T) {
	forSettings(t, func(t *testing.T, x, y *rdmanet.Conn) {
		const writers, rounds, size = 4, 20, 30000
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				p := bytes.Repeat([]byte{byte(w)}, size)
				for range rounds {
					if n, err := x.Write(p); n != size || err != nil {
						t.Errorf("Write: %d, %v", n, err)
					}
				}
			})
		}
		p := make([]byte, size)
		for range writers * rounds {
			_, err := io.ReadFull(y, p)
			require.NoError(t, err)
			require.Equal(t, bytes.Repeat(p[:1], size), p)
		}
		wg.Wait()
	})
}

// The buffers belong to the caller again when Read and Write return, even when a deadline ends
// them.
func TestBuffersAreNotKept(t *testing.T) {
	forSettings(t, func(t *testing.T, x, y *rdmanet.Conn) {
		want := pattern(700 << 10)
		var stop atomic.Bool
		wait := background(t, func() {
			p := make([]byte, 100000)
			for rest := want; len(rest) > 0; {
				n := copy(p, rest)
				n, err := x.Write(p[:n])
				if err != nil && !isTimeout(err) {
					t.Errorf("Write: %v", err)
					return
				}
				for i := range p {
					p[i] = 0xee
				}
				rest = rest[n:]
			}
		})
		ticks := background(t, func() {
			for !stop.Load() {
				x.SetWriteDeadline(time.Now().Add(300 * time.Microsecond))
				y.SetReadDeadline(time.Now().Add(200 * time.Microsecond))
				time.Sleep(500 * time.Microsecond) // the pace of the deadlines, nothing waits for it
				x.SetWriteDeadline(time.Time{})
				y.SetReadDeadline(time.Time{})
				time.Sleep(200 * time.Microsecond)
			}
		})
		got := make([]byte, 0, len(want))
		p := make([]byte, 70000)
		for len(got) < len(want) {
			n, err := y.Read(p)
			if err != nil && !isTimeout(err) {
				t.Fatalf("Read: %v", err)
			}
			got = append(got, p[:n]...)
			for i := range p {
				p[i] = 0xdd
			}
		}
		stop.Store(true)
		wait()
		ticks()
		require.True(t, bytes.Equal(want, got))
	})
}

func TestConcurrentUse(t *testing.T) {
	for _, s := range settings {
		t.Run(s.name, func(t *testing.T) {
			e := connect(t, s)
			var wg sync.WaitGroup
			for _, c := range []*rdmanet.Conn{e.a, e.b} {
				for i := range 3 {
					wg.Go(func() {
						for p := make([]byte, 10000); ; {
							if _, err := c.Read(p); err != nil && !isTimeout(err) {
								return
							}
						}
					})
					wg.Go(func() {
						for p := make([]byte, 1+i*10000); ; {
							if _, err := c.Write(p); err != nil && !isTimeout(err) {
								return
							}
						}
					})
					wg.Go(func() {
						for n := range 50 {
							c.SetDeadline(time.Now().Add(time.Duration(n*i) * 100 * time.Microsecond))
							c.SetReadDeadline(time.Time{})
							c.LocalAddr()
							c.Attributes()
							c.SetWriteDeadline(time.Time{})
						}
						switch i {
						case 1:
							c.CloseWrite()
						case 2:
							c.CloseRead()
						}
						c.Close()
					})
				}
			}
			background(t, wg.Wait)()
		})
	}
}

func TestNoAllocations(t *testing.T) {
	for _, s := range settings {
		for _, size := range []int{1, 4096, 65536} {
			if s.client.RingSize > 0 && size > 4096 {
				continue
			}
			t.Run(fmt.Sprintf("%s/size=%d", s.name, size), func(t *testing.T) {
				if raceEnabled {
					t.Skip("the race detector allocates; run without -race")
				}
				e := connect(t, s)
				wait := background(t, func() {
					p := make([]byte, size)
					for {
						if _, err := io.ReadFull(e.b, p); err != nil {
							return
						}
						if _, err := e.b.Write(p); err != nil {
							return
						}
					}
				})
				p := make([]byte, size)
				echo := func() {
					if _, err := e.a.Write(p); err != nil {
						t.Error(err)
					}
					if _, err := io.ReadFull(e.a, p); err != nil {
						t.Error(err)
					}
				}
				for range 200 {
					echo() // queues grow to their size
				}
				// A garbage collection in between empties pools, so a few are allowed.
				require.LessOrEqual(t, testing.AllocsPerRun(500, echo), 0.5)
				e.a.Close()
				wait()
			})
		}
	}
}

// TestSpaceForOneOfTwoWriters has both ends write more than there is space for. What one of them
// has read is told to the other even though nothing can be sent along with that.
func TestSpaceForOneOfTwoWriters(t *testing.T) {
	const ring = 64 << 10
	for name, write := range map[string]bool{"the reader goes on to write": true, "the reader writes nothing": false} {
		t.Run(name, func(t *testing.T) {
			cfg := rdmanet.Config{RingSize: ring}
			e := connect(t, setting{client: cfg, server: cfg})
			wrote := background(t, func() {
				if _, err := e.b.Write(make([]byte, ring+ring/2-100)); err != nil {
					t.Error(err)
				}
				if _, err := io.Copy(io.Discard, e.b); err != nil {
					t.Error(err)
				}
			})
			fill(t, e.a)
			_, err := io.ReadFull(e.a, make([]byte, ring/2+1000))
			require.NoError(t, err)
			require.NoError(t, e.a.SetWriteDeadline(time.Time{}))
			if write {
				require.NoError(t, within(t, func() error { _, err := e.a.Write(make([]byte, 1000)); return err }))
			}
			require.NoError(t, e.a.CloseWrite())
			wrote()
		})
	}
}
