package reuseport

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/internal/testkit/leak"
	"github.com/rdmanet/iwarp/test/services/load"
)

func TestMain(m *testing.M) {
	_ = os.Unsetenv("IWARP_OFFLOAD")
	_ = os.Unsetenv("IWARP_LISTEN_OFFLOAD")
	leak.Main(m)
}

// server has a socket of its own.
type server struct {
	http.Server
	l     *iwarp.Listener
	open  sync.WaitGroup
	ended chan error
}

func start(t *testing.T, address string) *server {
	t.Helper()
	lc := iwarp.ListenConfig{PortSpace: &iwarp.PortSpace{}, Control: func(_, _ string, c syscall.RawConn) (err error) {
		if bad := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) }); bad != nil {
			return bad
		}
		return err
	}}
	l, err := lc.Listen(t.Context(), "tcp", address)
	require.NoError(t, err)
	s := &server{l: l.(*iwarp.Listener), ended: make(chan error, 1)}
	s.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, "%p", s) })
	s.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			s.open.Add(1)
		case http.StateClosed:
			s.open.Done()
		}
	}
	go func() { s.ended <- s.Serve(l) }()
	return s
}

// end loses no client: those that come go to the others, and those that are here are answered.
func (s *server) end(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), load.Patience)
	defer cancel()
	require.NoError(t, s.l.Drain(ctx))
	require.ErrorIs(t, <-s.ended, net.ErrClosed)
	s.SetKeepAlivesEnabled(false)
	s.open.Wait()
	require.NoError(t, s.Close())
}

// TestRestart replaces the older one of two servers under load: no request fails.
func TestRestart(t *testing.T) {
	const restarts, requests = 20, 4000
	older := start(t, "127.0.0.1:0")
	address := older.l.Addr().String()
	newer := start(t, address)
	answered := make(chan string)
	clients := load.Start(address, func(said string) error {
		select {
		case answered <- said:
		default:
		}
		return nil
	})
	defer clients.Stop()
	for n := 1; n <= restarts; n++ {
		clients.Await(t, n*requests/(restarts+1))
		next := start(t, address)
		older.end(t)
		older, newer = newer, next
		for <-answered != fmt.Sprintf("%p", newer) {
		}
	}
	clients.Await(t, requests)
	clients.Stop()
	clients.Check(t)
	older.end(t)
	newer.end(t)
}
