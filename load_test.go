package iwarp_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
)

// TestManyConnections opens connections of all kinds at once, echoes data on each, and leaves
// neither goroutine nor descriptor.
func TestManyConnections(t *testing.T) {
	conns, size := 1000, 1<<20
	if testing.Short() || raceEnabled {
		conns, size = 200, 64<<10
	}
	limit := time.Now().Add(2 * time.Minute)
	require.NoError(t, listen(t, iwarp.ListenConfig{}).Close()) // leaves the descriptors of Go's poller
	goroutines, files := runtime.NumGoroutine(), openFiles(t)
	text := make([]byte, size)
	for i := range text {
		text[i] = byte(rand.Uint32())
	}

	lc := iwarp.ListenConfig{FirstByteTimeout: time.Minute, HandshakeTimeout: time.Minute}
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var servers, clients sync.WaitGroup
	servers.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				if !errors.Is(err, net.ErrClosed) {
					t.Error(err)
				}
				return
			}
			servers.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(limit)
				_, err := io.Copy(c, c)
				noError(t, err)
			})
		}
	})

	first, err := (&iwarp.Dialer{Offload: iwarp.OffloadRequire, Deadline: limit}).Dial("tcp", l.Addr().String())
	require.NoError(t, err) // or else all but one with OffloadPrefer might not wait for an answer
	exchangeWithEcho(t, first, "hello")
	require.NoError(t, first.Close())

	var ready sync.WaitGroup // all connections are open at once
	ready.Add(conns)
	// Fewer are silent at once than may be, or else one that is slow for the load of the machine
	// would have to give way, and be taken for plain TCP.
	dialing := make(chan struct{}, 100)
	for i := range conns {
		clients.Go(func() {
			dialing <- struct{}{}
			d := iwarp.Dialer{Offload: policies[1+i%3], Deadline: limit, HandshakeTimeout: time.Minute}
			c, err := d.Dial("tcp", l.Addr().String())
			if err == nil {
				_, err = c.Write(text[:1])
			}
			<-dialing
			ready.Done()
			if !noError(t, err) {
				return
			}
			defer c.Close()
			_ = c.SetDeadline(limit)
			ready.Wait()
			var sent sync.WaitGroup
			sent.Go(func() {
				_, err := c.Write(text[1:])
				noError(t, err)
			})
			got := make([]byte, 16<<10)
			for rest := text; len(rest) > 0; {
				n, err := io.ReadFull(c, got[:min(len(got), len(rest))])
				if !noError(t, err) {
					break
				}
				if !bytes.Equal(got[:n], rest[:n]) {
					t.Error("the echo differs")
					break
				}
				rest = rest[n:]
			}
			sent.Wait()
		})
	}
	clients.Wait()
	s := l.(*iwarp.Listener).Stats()
	require.EqualValues(t, 1+conns, s.IWARP+s.PlainTCP)
	require.EqualValues(t, (conns+2)/3, s.PlainTCP)
	require.Zero(t, s.HandshakeFailed)
	require.NoError(t, l.Close())
	servers.Wait()
	eventually(t, func() bool { return runtime.NumGoroutine() <= goroutines }, "goroutines have ended")
	if files > 0 {
		eventually(t, func() bool {
			runtime.GC() // which closes the pipes that package net keeps for splice(2)
			return openFiles(t) <= files
		}, "descriptors are closed")
	}
}

// TestNoGoroutinePerConnection holds connections idle after use, and counts.
func TestNoGoroutinePerConnection(t *testing.T) {
	const conns = 50
	l := listen(t, iwarp.ListenConfig{})
	before := runtime.NumGoroutine()
	for range conns {
		c, s := meet(t, l, func() net.Conn { return dial(t, l, iwarp.OffloadRequire) })
		exchange(t, c, s, "hello")
	}
	eventually(t, func() bool { return runtime.NumGoroutine() <= before }, "idle connections need no goroutine")
}
