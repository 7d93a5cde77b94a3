package handoff_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/internal/testkit/leak"
	"github.com/rdmanet/iwarp/test/services/handoff"
	"github.com/rdmanet/iwarp/test/services/load"
)

func TestMain(m *testing.M) {
	_ = os.Unsetenv("IWARP_OFFLOAD")
	_ = os.Unsetenv("IWARP_LISTEN_OFFLOAD")
	leak.Main(m)
}

const address = "127.0.0.1:0"

// configuration is what a server has loaded.
type configuration struct {
	server http.Server
	done   chan error
}

func begin(t *testing.T, sockets *handoff.Sockets, n int) (*configuration, net.Listener) {
	t.Helper()
	l, err := sockets.Listen(t.Context(), new(iwarp.ListenConfig), "tcp", address)
	require.NoError(t, err)
	c := &configuration{done: make(chan error, 1)}
	c.server.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, n) })
	go func() { c.done <- c.server.Serve(l) }()
	return c, l
}

func (c *configuration) end(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), load.Patience)
	defer cancel()
	require.NoError(t, c.server.Shutdown(ctx))
	require.ErrorIs(t, <-c.done, http.ErrServerClosed)
}

// TestReload has one configuration follow the other under load, with one that fails in between: no
// request does.
func TestReload(t *testing.T) {
	const reloads, requests = 20, 2500
	var sockets handoff.Sockets
	at, l := begin(t, &sockets, 0)
	clients := load.Start(l.Addr().String(), func(said string) error {
		var n int
		if _, err := fmt.Sscan(said, &n); err != nil || n < 0 {
			return fmt.Errorf("answer is %q", said)
		}
		return nil
	})
	defer clients.Stop()
	for n := 1; n <= reloads; n++ {
		clients.Await(t, n*requests/(reloads+1))
		failed, _ := begin(t, &sockets, -1)
		failed.end(t)
		next, again := begin(t, &sockets, n)
		require.Equal(t, l.Addr(), again.Addr())
		at.end(t)
		at = next
	}
	clients.Await(t, requests)
	clients.Stop()
	clients.Check(t)
	at.end(t)
	_, err := net.Dial("tcp", l.Addr().String())
	require.Error(t, err, "nobody listens any more")
}

// TestClose ends listeners of one socket in every order.
func TestClose(t *testing.T) {
	for _, order := range [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		var sockets handoff.Sockets
		var listeners []net.Listener
		ended := make([]chan error, 3)
		for i := range ended {
			l, err := sockets.Listen(t.Context(), new(iwarp.ListenConfig), "tcp", address)
			require.NoError(t, err)
			listeners = append(listeners, l)
			ended[i] = make(chan error, 1)
			go func() {
				_, err := l.Accept()
				ended[i] <- err
			}()
		}
		for _, i := range order {
			require.NoError(t, listeners[i].Close())
			require.ErrorIs(t, <-ended[i], net.ErrClosed)
			require.ErrorIs(t, listeners[i].Close(), net.ErrClosed)
		}
		l, err := iwarp.Listen("tcp", listeners[0].Addr().String())
		require.NoError(t, err, "the port is given back")
		require.NoError(t, l.Close())
	}
}
