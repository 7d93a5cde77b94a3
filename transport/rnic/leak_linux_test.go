//go:build amd64 || arm64

package rnic_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/internal/nldev"
	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/internal/transporttest"
	"github.com/rdmanet/iwarp/transport/rnic"
)

// usage is what this process and the device have in use.
type usage struct {
	device     nldev.Counts
	files      int
	goroutines int
	mappings   int
	resident   int // pages
}

func used(t testing.TB, device string) (u usage) {
	var err error
	u.device, err = nldev.Resources(device)
	require.NoError(t, err)
	fds, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	maps, err := os.ReadFile("/proc/self/maps")
	require.NoError(t, err)
	statm, err := os.ReadFile("/proc/self/statm")
	require.NoError(t, err)
	_, err = fmt.Sscan(string(statm), new(int), &u.resident)
	require.NoError(t, err)
	u.files, u.goroutines, u.mappings = len(fds), runtime.NumGoroutine(), strings.Count(string(maps), "\n")
	return u
}

// round opens a connection, sends some kilobytes each way, and ends it in one of several ways.
func round(t *testing.T, r *rnic.Transport, l transport.Listener, i int) {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	c, err := r.Dial(ctx, netip.AddrPort{}, l.Addr(), &transport.Options{SendDepth: 32, RecvDepth: 8})
	for errors.Is(err, syscall.EIO) && ctx.Err() == nil {
		t.Log(i, err) // rdma-core's siw has no place for a queue until others have gone
		time.Sleep(100 * time.Millisecond)
		c, err = r.Dial(ctx, netip.AddrPort{}, l.Addr(), &transport.Options{SendDepth: 32, RecvDepth: 8})
	}
	require.NoError(t, err)
	receives(t, c.QueuePair(), 2, 4096)
	waiting, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan transporttest.Connected, 1)
	go func() {
		r := <-connecting(ctx, c, []byte("hello"))
		if done <- r; r.Err != nil {
			time.AfterFunc(time.Second, stop) // the listener may be about to say why
		}
	}()
	s, err := l.Accept(waiting)
	if err == nil && s.QueuePair().Err() != nil {
		err = s.Accept(ctx, nil)
	}
	if err != nil {
		// Siw has no place for a queue until others have gone, or rdma_cm has chosen a port from
		// which a connection is in TIME_WAIT.
		failed := (<-done).Err
		require.Error(t, failed)
		require.True(t, errors.Is(err, syscall.EIO) || errors.Is(failed, syscall.EADDRNOTAVAIL) || errors.Is(failed, syscall.EADDRINUSE), "%v, %v", err, failed)
		t.Log(i, err, failed)
		return
	}
	receives(t, s.QueuePair(), 2, 4096)
	if i%7 == 6 {
		require.NoError(t, s.Reject([]byte("no")))
		require.Error(t, (<-done).Err)
		return
	}
	require.NoError(t, s.Accept(ctx, nil))
	require.NoError(t, (<-done).Err)
	p := pair{c.QueuePair(), s.QueuePair()}
	for _, q := range []transport.QueuePair{p.a, p.b} {
		b, m := allocate(t, q, 4096, 0)
		post(t, q, transport.SendWR{Data: b, Region: m}, transport.SendWR{Data: b, Region: m})
		if i%2 == 0 {
			require.NoError(t, m.Deregister())
		}
	}
	for _, q := range []transport.QueuePair{p.a, p.b} {
		for range 2 {
			require.Equal(t, 4096, next(t, q).Bytes)
		}
	}
	switch i % 7 {
	case 0:
		require.NoError(t, p.a.Abort())
		require.NoError(t, p.b.Close())
	case 1:
		require.NoError(t, p.b.Abort())
		require.NoError(t, p.a.Abort())
	case 2: // the peer ends it
		require.NoError(t, p.b.(*rnic.QueuePair).CloseLast()) // without a farewell, which takes a second
		_, err := rest(t, p.a)
		require.Error(t, err)
		require.NoError(t, p.a.Close())
	case 3:
		require.NoError(t, p.a.(*rnic.QueuePair).CloseLast())
		_, err := rest(t, p.b)
		require.Error(t, err)
		require.NoError(t, p.b.Abort())
	default:
		require.NoError(t, p.a.Close())
		require.NoError(t, p.b.Close())
	}
}

// settled is the usage once it has not changed for longer than a peer is waited for.
func settled(t *testing.T, device string) usage {
	u, since := used(t, device), time.Now()
	for time.Since(since) < 3*time.Second {
		time.Sleep(50 * time.Millisecond)
		runtime.GC()
		if now := used(t, device); now.device != u.device || now.files != u.files || now.goroutines != u.goroutines {
			u, since = now, time.Now()
		} else {
			u = now
		}
	}
	return u
}

func TestLeaks(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	eachDevice(t, func(t *testing.T, _ *rnic.Transport, d transport.Device, addr netip.Addr) {
		const n = 250
		// back waits for what goes on after Close.
		back := func(want usage) (got usage) {
			for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
				runtime.GC() // the regions that nobody has deregistered
				got = used(t, d.Name)
				if got.device == want.device && got.files <= want.files && got.goroutines <= want.goroutines && got.mappings <= want.mappings+32 || time.Now().After(end) {
					return got
				}
			}
		}
		run := func(n int) {
			r := rnic.New(nil)
			l, err := r.Listen(limited(t), netip.AddrPortFrom(addr, 0), nil)
			require.NoError(t, err)
			defer l.Close()
			for i := range n {
				round(t, r, l, i)
			}
		}
		run(14) // what the libraries and this package keep for good
		first := settled(t, d.Name)
		begin := time.Now()
		run(n)
		took := time.Since(begin)
		last := back(first)
		t.Logf("%d connections in %v, gone %v later\nbefore %+v\nafter  %+v", n, took.Round(time.Millisecond), (time.Since(begin) - took).Round(time.Millisecond), first, last)
		require.Equal(t, first.device, last.device)
		require.LessOrEqual(t, last.files, first.files)
		require.LessOrEqual(t, last.goroutines, first.goroutines)
		require.LessOrEqual(t, last.mappings, first.mappings+32)
		require.LessOrEqual(t, last.resident, first.resident+(16<<20)/os.Getpagesize())
	})
}
