//go:build amd64 || arm64

package rnic_test

import (
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport"
)

func TestWaitDeadline(t *testing.T) {
	pairs(t, nil, posted, func(t *testing.T, p pair, d transport.Device) {
		require.ErrorIs(t, p.a.Wait(time.Now().Add(-time.Second)), os.ErrDeadlineExceeded)
		for range 2 {
			begin := time.Now()
			require.ErrorIs(t, p.a.Wait(begin.Add(30*time.Millisecond)), os.ErrDeadlineExceeded)
			require.GreaterOrEqual(t, time.Since(begin), 30*time.Millisecond)
		}
		post(t, p.b, transport.SendWR{})
		require.NoError(t, p.a.Wait(soon()))
		require.NoError(t, p.a.Wait(time.Now().Add(-time.Second)), "there is something to poll")
		require.Equal(t, transport.OpRecv, next(t, p.a).Opcode)
		post(t, p.b, transport.SendWR{})
		require.NoError(t, p.a.Wait(noDeadline))
	})
}

func TestDrainDeadline(t *testing.T) {
	// Without a receive the peer of a device with retries does not take the Send. iWARP has none:
	// the connection ends.
	pairs(t, nil, nil, func(t *testing.T, p pair, d transport.Device) {
		require.NoError(t, p.a.Drain(soon()), "nothing to wait for")
		if d.IWARP {
			t.Skip("iWARP devices do not wait for the peer's receives")
		}
		post(t, p.a, transport.SendWR{})
		require.ErrorIs(t, p.a.Drain(time.Now().Add(50*time.Millisecond)), os.ErrDeadlineExceeded)
		receives(t, p.b, 1, 1)
		require.NoError(t, p.a.Drain(soon()))
	})
}

func TestInterrupt(t *testing.T) {
	pairs(t, nil, posted, func(t *testing.T, p pair, d transport.Device) {
		for range 50 {
			done := make(chan error, 2)
			go func() { done <- p.a.Wait(soon()) }()
			go func() { done <- p.a.Wait(soon()) }()
			// One that comes before they wait need not end both.
			for n := 0; n < 2; {
				p.a.Interrupt()
				select {
				case err := <-done:
					require.ErrorIs(t, err, transport.ErrInterrupted)
					n++
				case <-time.After(time.Millisecond):
				}
			}
		}
		// A later call may be ended by the same interrupt, but no other.
		_ = p.a.Wait(time.Now())
		require.ErrorIs(t, p.a.Wait(time.Now().Add(10*time.Millisecond)), os.ErrDeadlineExceeded)
		post(t, p.b, transport.SendWR{})
		require.NoError(t, p.a.Wait(soon()))
	})
}

// One goroutine waits for what arrives while others send and drain.
func TestWaitAndDrain(t *testing.T) {
	const rounds = 300
	pairs(t, nil, func(t *testing.T, q transport.QueuePair) { receives(t, q, rounds, 8) }, func(t *testing.T, p pair, d transport.Device) {
		var wg sync.WaitGroup
		for _, q := range []transport.QueuePair{p.a, p.b} {
			wg.Go(func() {
				for range rounds {
					if n, err := q.PostSend([]transport.SendWR{{Flags: transport.Inline, Data: []byte("12345678")}}); n != 1 {
						t.Error(err)
						return
					}
					if err := q.Drain(soon()); err != nil {
						t.Error(err)
						return
					}
				}
			})
			wg.Go(func() {
				var wc [4]transport.Completion
				for got := 0; got < rounds; {
					n := q.Poll(wc[:])
					got += n
					if n == 0 {
						if err := q.Wait(soon()); err != nil {
							t.Error(got, err)
							return
						}
					}
				}
			})
		}
		wg.Wait()
	})
}

// Work that the end of the connection finds posted comes back before Err does.
func TestFlush(t *testing.T) {
	pairs(t, nil, posted, func(t *testing.T, p pair, d transport.Device) {
		require.NoError(t, p.b.Close())
		list, err := rest(t, p.a)
		require.Error(t, err)
		require.Equal(t, err, p.a.Err())
		require.Equal(t, transport.StateError, p.a.State())
		require.Len(t, list, 8)
		for i, c := range list {
			require.Equal(t, transport.Completion{ID: uint64(i), Opcode: transport.OpRecv, Status: transport.StatusFlushed}, c)
		}
		n, err := p.a.PostSend(make([]transport.SendWR, 1))
		require.Zero(t, n)
		require.Equal(t, p.a.Err(), err)
	})
}

func TestWaitersAndTheEnd(t *testing.T) {
	for name, end := range map[string]func(p pair) error{
		"peer closes": func(p pair) error { return p.b.Close() },
		"peer aborts": func(p pair) error { return p.b.Abort() },
		"close":       func(p pair) error { return p.a.Close() },
		"abort":       func(p pair) error { return p.a.Abort() },
	} {
		t.Run(name, func(t *testing.T) {
			pairs(t, nil, nil, func(t *testing.T, p pair, d transport.Device) {
				done := make(chan error, 3)
				for range 3 {
					go func() { done <- p.a.Wait(soon()) }()
				}
				require.NoError(t, end(p))
				for range 3 {
					err := <-done
					require.Error(t, err)
					require.Equal(t, p.a.Err(), err)
				}
			})
		})
	}
}

// The end does not wait for sends that are done but that nobody was told of. It may where a device
// is late to say that the peer has gone, so each device has several tries.
func TestEndBehindUnsignaledSends(t *testing.T) {
	const most = 900 * time.Millisecond
	least := make(map[string]time.Duration)
	slowest := func() (slowest time.Duration) {
		for _, took := range least {
			slowest = max(slowest, took)
		}
		return slowest
	}
	for try := 0; try == 0 || try < 10 && slowest() >= most; try++ {
		pairs(t, nil, posted, func(t *testing.T, p pair, d transport.Device) {
			post(t, p.a, transport.SendWR{Flags: transport.Inline, Data: []byte("x")})
			require.Equal(t, 1, next(t, p.b).Bytes)
			require.NoError(t, p.b.Abort())
			begin := time.Now()
			list, err := rest(t, p.a)
			require.Error(t, err)
			require.Len(t, list, 8)
			took := time.Since(begin)
			if was, ok := least[d.Name]; !ok || took < was {
				least[d.Name] = took
			}
		})
	}
	require.Less(t, slowest(), most, least)
}
