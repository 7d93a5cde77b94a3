//go:build amd64 || arm64

package rnic_test

import (
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport"
)

// What was posted before Close arrives, and the end after it.
func TestCloseWithSendsOutstanding(t *testing.T) {
	const n, size = 100, 32 << 10
	var mem []byte
	pairs(t, nil, func(t *testing.T, q transport.QueuePair) { mem = receives(t, q, n, size) }, func(t *testing.T, p pair, d transport.Device) {
		b, m := allocate(t, p.a, size, 0)
		copy(b, pattern(size, 5))
		wrs := make([]transport.SendWR, n)
		for i := range wrs {
			wrs[i] = transport.SendWR{Data: b, Region: m}
		}
		post(t, p.a, wrs...)
		require.NoError(t, p.a.Close())
		require.NoError(t, m.Deregister())
		list, err := rest(t, p.b)
		require.Error(t, err)
		require.Len(t, list, n)
		for i, c := range list {
			require.Equal(t, transport.Completion{ID: uint64(i), Opcode: transport.OpRecv, Bytes: size}, c)
			require.Equal(t, pattern(size, 5), mem[i*size:(i+1)*size])
		}
		gone(t, p.a)
		require.NoError(t, p.b.Close())
		gone(t, p.b)
	})
}

func TestUseAfterClose(t *testing.T) {
	for name, end := range map[string]func(q transport.QueuePair) error{"close": transport.QueuePair.Close, "abort": transport.QueuePair.Abort} {
		t.Run(name, func(t *testing.T) {
			pairs(t, nil, posted, func(t *testing.T, p pair, d transport.Device) {
				q := p.a
				local, remote := q.LocalAddr(), q.RemoteAddr()
				require.NoError(t, end(q))
				for range 2 { // at once, and when the device has let go
					require.ErrorIs(t, q.Close(), transport.ErrClosed)
					require.ErrorIs(t, q.Abort(), transport.ErrClosed)
					require.ErrorIs(t, q.Err(), net.ErrClosed)
					_, err := q.PostSend(make([]transport.SendWR, 1))
					require.ErrorIs(t, err, net.ErrClosed)
					_, err = q.PostRecv(make([]transport.RecvWR, 1))
					require.ErrorIs(t, err, net.ErrClosed)
					require.ErrorIs(t, q.Drain(soon()), net.ErrClosed)
					q.Interrupt()
					require.Equal(t, local, q.LocalAddr())
					require.Equal(t, remote, q.RemoteAddr())
					require.Equal(t, d.Name, q.Attributes().Device)
					require.ErrorIs(t, q.SetMaxSegment(1500), errors.ErrUnsupported)
					gone(t, q)
				}
				require.Equal(t, transport.StateError, q.State())
				list, err := rest(t, q)
				require.ErrorIs(t, err, net.ErrClosed)
				require.Len(t, list, 8)
				for _, c := range list {
					require.Equal(t, transport.StatusFlushed, c.Status)
				}
			})
		})
	}
}

// Everything at once, while the connection ends in every possible way. This is for the race
// detector and for the C objects.
func TestEndUnderUse(t *testing.T) {
	ends := []func(p pair) error{
		func(p pair) error { return p.a.Close() }, func(p pair) error { return p.a.Abort() },
		func(p pair) error { return p.b.Close() }, func(p pair) error { return p.b.Abort() },
	}
	for i, end := range ends {
		for range 3 {
			pairs(t, &transport.Options{SendDepth: 16}, nil, func(t *testing.T, p pair, d transport.Device) {
				var wg sync.WaitGroup
				var started sync.WaitGroup
				started.Add(2)
				for _, q := range []transport.QueuePair{p.a, p.b} {
					wg.Go(func() {
						for n := 0; ; n++ {
							if n == 20 {
								started.Done()
							}
							_, err := q.PostSend([]transport.SendWR{{Opcode: transport.OpWrite, Flags: transport.Signaled}})
							if errors.Is(err, transport.ErrQueueFull) {
								err = q.Drain(soon())
							}
							if err != nil && n >= 20 {
								return
							}
						}
					})
					wg.Go(func() {
						var wc [4]transport.Completion
						for {
							if q.Poll(wc[:]) == 0 && q.Wait(soon()) != nil {
								return
							}
						}
					})
					wg.Go(func() {
						for {
							_, m, err := q.(transport.MemoryAllocator).AllocateMemory(4096, transport.RemoteWrite)
							if err != nil {
								return
							}
							_, err = q.PostRecv([]transport.RecvWR{{}})
							_ = m.Deregister()
							if err != nil && !errors.Is(err, transport.ErrQueueFull) {
								return
							}
							time.Sleep(time.Millisecond)
						}
					})
				}
				started.Wait()
				require.NoError(t, end(p), i)
				wg.Wait()
			})
		}
	}
}

func TestOnGone(t *testing.T) {
	pairs(t, nil, nil, func(t *testing.T, p pair, d transport.Device) {
		called := make(chan int, 8)
		l := p.a.(transport.Leaver)
		l.OnGone(func(bool) { called <- 1 })
		l.OnGone(func(bool) { called <- 1 })
		select {
		case <-called:
			t.Fatal("before Close")
		default:
		}
		require.NoError(t, p.a.Close())
		require.NoError(t, p.b.Abort())
		<-called
		<-called
		gone(t, p.a)
		gone(t, p.b)
		require.Empty(t, called)
	})
}
