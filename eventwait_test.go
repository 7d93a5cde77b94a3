package iwarp_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
)

// A catcher is a slog.Handler that calls catch with the first record of an event.
type catcher struct {
	event  string
	catch  func()
	caught *atomic.Bool
}

func (catcher) Enabled(context.Context, slog.Level) bool { return true }
func (h catcher) WithAttrs([]slog.Attr) slog.Handler     { return h }
func (h catcher) WithGroup(string) slog.Handler          { return h }

func (h catcher) Handle(_ context.Context, r slog.Record) error {
	if r.Message == h.event && h.caught.CompareAndSwap(false, true) {
		h.catch()
	}
	return nil
}

// eachEvent has clients do what a listener tells of. Its Logger calls catch when told.
func eachEvent(t *testing.T, test func(t *testing.T, logger func(catch func()) iwarp.ListenConfig, cause func(*iwarp.Listener))) {
	const badRequest = "MPA ID Req Frame\x40\x02\xff\xff"
	for name, tt := range map[string]struct {
		lc          iwarp.ListenConfig
		event, says string
		clients     int
	}{
		"accepted":          {iwarp.ListenConfig{Offload: iwarp.OffloadNever}, "connected", "GET", 1},
		"fallback":          {iwarp.ListenConfig{}, "plain TCP", "GET", 1},
		"refused":           {iwarp.ListenConfig{Offload: iwarp.OffloadRequire}, "client of plain TCP refused", "GET", 1},
		"handshake":         {iwarp.ListenConfig{}, "handshake failed", badRequest, 1},
		"handshake at once": {iwarp.ListenConfig{Offload: iwarp.OffloadRequire}, "handshake failed", badRequest, 1},
		"over a limit":      {iwarp.ListenConfig{Offload: iwarp.OffloadNever, MaxConnsPerPeer: 1}, "client over a limit refused", "GET", 2},
	} {
		t.Run(name, func(t *testing.T) {
			logger := func(catch func()) iwarp.ListenConfig {
				tt.lc.Logger = slog.New(catcher{"iwarp: " + tt.event, catch, new(atomic.Bool)})
				return tt.lc
			}
			test(t, logger, func(l *iwarp.Listener) {
				for range tt.clients {
					c, err := net.Dial("tcp", l.Addr().String())
					if err != nil {
						return // the listener is closed already
					}
					t.Cleanup(func() { _ = c.Close() })
					_, _ = io.WriteString(c, tt.says) // which may be reset by then
				}
			})
		})
	}
}

// acceptBy has so many goroutines accept, and returns a function that waits for their end.
func acceptBy(t *testing.T, n int, l *iwarp.Listener, got chan<- net.Conn) (wait func()) {
	var calls sync.WaitGroup
	for range n {
		calls.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				got <- c
			}
		})
	}
	return background(t, calls.Wait)
}

// TestLoggerTakesItsTime has neither other clients nor Close wait for the Logger.
func TestLoggerTakesItsTime(t *testing.T) {
	eachEvent(t, func(t *testing.T, logger func(func()) iwarp.ListenConfig, cause func(*iwarp.Listener)) {
		told, goOn := make(chan struct{}), make(chan struct{})
		lc := logger(func() { close(told); <-goOn })
		l, got := listen(t, lc), make(chan net.Conn, 10)
		wait := acceptBy(t, 2, l, got)
		cause(l)
		background(t, func() { <-told })()
		other := &iwarp.Dialer{Offload: lc.Offload, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}, Timeout: patience}
		c := dialBy(t, other, "tcp", l.Addr().String())
		_, err := io.WriteString(c, "GET")
		require.NoError(t, err)
		background(t, func() {
			for s := range got {
				_ = s.Close()
				if s.RemoteAddr().String() == c.LocalAddr().String() {
					return
				}
			}
		})()
		background(t, func() { _ = l.Close() })()
		close(goOn)
		wait()
	})
}

// TestLoggerCloses has the Logger close the listener that it is told of.
func TestLoggerCloses(t *testing.T) {
	eachEvent(t, func(t *testing.T, logger func(func()) iwarp.ListenConfig, cause func(*iwarp.Listener)) {
		var l *iwarp.Listener
		closed := make(chan error, 1)
		l = listen(t, logger(func() { closed <- l.Close() }))
		got := make(chan net.Conn, 10)
		wait := acceptBy(t, 1, l, got)
		cause(l)
		wait()
		require.NoError(t, <-closed)
		close(got)
		for c := range got {
			require.NoError(t, c.Close())
		}
	})
}
