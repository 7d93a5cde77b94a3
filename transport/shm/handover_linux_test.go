package shm_test

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
)

// TestHandover moves the meeting place with the port, as from a process to the one that replaces
// it. No client fails, and in the end they get through shared memory again.
func TestHandover(t *testing.T) {
	served := func(l net.Listener, by byte, all *sync.WaitGroup) {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(soon())
				if _, err := io.ReadFull(c, make([]byte, 1)); err == nil {
					_, _ = c.Write([]byte{by})
				}
			})
		}
	}
	var all sync.WaitGroup
	old := listenTCP(t, iwarp.ListenConfig{}, "tcp", "127.0.0.1:0").(*iwarp.Listener)
	all.Go(func() { served(old, 1, &all) })

	ask := func() (by byte, transport string) {
		c, err := patient.Dial("tcp", old.Addr().String())
		if err != nil {
			t.Error(err)
			return 0, ""
		}
		defer c.Close()
		_ = c.SetDeadline(soon())
		b := []byte{0}
		_, err = c.Write(b)
		if err == nil {
			_, err = io.ReadFull(c, b)
		}
		if err != nil {
			t.Error(err)
		}
		info, _ := iwarp.Describe(c)
		return b[0], info.Transport
	}
	by, transport := ask()
	require.Equal(t, byte(1), by)
	require.Equal(t, "shm", transport)

	var stop atomic.Bool
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for !stop.Load() {
				ask()
			}
		})
	}
	f, err := old.File()
	require.NoError(t, err)
	var ps iwarp.PortSpace
	r, err := ps.Adopt(f)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	defer func() { _ = r.Release() }()
	next := listenTCP(t, iwarp.ListenConfig{PortSpace: &ps}, "tcp", old.Addr().String())
	all.Go(func() { served(next, 2, &all) })
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	require.NoError(t, old.Drain(ctx))
	require.NoError(t, old.Close())
	for end := soon(); ; {
		by, transport = ask()
		if by == 2 && transport == "shm" {
			break
		}
		require.True(t, time.Now().Before(end))
	}
	stop.Store(true)
	clients.Wait()
	require.NoError(t, next.Close())
	all.Wait()
}
