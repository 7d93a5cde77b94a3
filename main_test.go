package iwarp_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rdmanet/iwarp"
)

// patience bounds what a test waits for.
const patience = 20 * time.Second

func TestMain(m *testing.M) {
	_ = os.Unsetenv("IWARP_OFFLOAD")
	_ = os.Unsetenv("IWARP_LISTEN_OFFLOAD")
	iwarp.BePatient()
	if run, ok := processes[os.Getenv(processVariable)]; ok {
		os.Exit(run())
	}
	goleak.VerifyTestMain(noticing{m})
}

// listen starts a Listener on a loopback port that ends with the test.
func listen(t testing.TB, lc iwarp.ListenConfig) *iwarp.Listener {
	t.Helper()
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l.(*iwarp.Listener)
}

// accept returns the next connection of l.
func accept(t testing.TB, l *iwarp.Listener) net.Conn {
	t.Helper()
	require.NoError(t, l.SetDeadline(time.Now().Add(patience)))
	c, err := l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
	return c
}

// dial connects to l by policy.
func dial(t testing.TB, l net.Listener, policy iwarp.Offload) net.Conn {
	t.Helper()
	d := iwarp.Dialer{Offload: policy, Timeout: patience}
	c, err := d.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
	return c
}

// meet dials while l accepts, as the set-up of an iWARP connection takes both ends, and returns the
// client's and the server's.
func meet(t testing.TB, l net.Listener, dial func() net.Conn) (client, server net.Conn) {
	t.Helper()
	accepted := make(chan net.Conn, 1)
	go func() {
		c, _ := l.Accept()
		accepted <- c
	}()
	client = dial()
	server = <-accepted
	require.NotNil(t, server)
	t.Cleanup(func() { _ = server.Close() })
	require.NoError(t, server.SetDeadline(time.Now().Add(patience)))
	return client, server
}

// acceptEach accepts in the background, and returns a function that waits for the next connection.
func acceptEach(t testing.TB, l net.Listener) (next func() net.Conn) {
	accepted := make(chan net.Conn, 100)
	go func() {
		defer close(accepted)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		for c := range accepted {
			_ = c.Close()
		}
	})
	return func() net.Conn {
		t.Helper()
		select {
		case c, ok := <-accepted:
			require.True(t, ok, "the listener has failed")
			t.Cleanup(func() { _ = c.Close() })
			require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
			return c
		case <-time.After(patience):
			t.Fatal("no connection")
			return nil
		}
	}
}

// dialBy connects by a Dialer of the test's.
func dialBy(t testing.TB, d *iwarp.Dialer, network, address string) net.Conn {
	t.Helper()
	c, err := d.Dial(network, address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// exchangeMet has the two ends that meet talk.
func exchangeMet(t testing.TB, l net.Listener, dial func() net.Conn) {
	t.Helper()
	c, s := meet(t, l, dial)
	exchange(t, c, s, "hello")
}

// dialTCP connects to l as a client does that knows nothing of iWARP.
func dialTCP(t testing.TB, l net.Listener) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
	return c.(*net.TCPConn)
}

// exchange sends text from a to b and back.
func exchange(t testing.TB, a, b net.Conn, text string) {
	t.Helper()
	for range 2 {
		_, err := io.WriteString(a, text)
		require.NoError(t, err)
		got := make([]byte, len(text))
		_, err = io.ReadFull(b, got)
		require.NoError(t, err)
		require.Equal(t, text, string(got))
		a, b = b, a
	}
}

// echo serves the connections of l until it is closed.
func echo(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			_, _ = io.Copy(c, c)
		}()
	}
}

// eventually looks until ok holds, on the goroutine of its caller. It is for what no event tells
// of.
func eventually(t testing.TB, ok func() bool, what string) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for limit := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(limit) {
			t.Fatal("in vain: ", what)
		}
	}
}

func describe(t testing.TB, c net.Conn) iwarp.Info {
	t.Helper()
	info, ok := iwarp.Describe(c)
	require.True(t, ok)
	return info
}

// opError takes an error apart that must be a *net.OpError.
func opError(t testing.TB, err error) *net.OpError {
	t.Helper()
	require.Error(t, err)
	op, ok := err.(*net.OpError)
	require.Truef(t, ok, "the outermost error is a %T: %v", err, err)
	return op
}

func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

var errTest = errors.New("error of the test")
