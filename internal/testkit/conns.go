// Package testkit has what the tests of several packages need: connections, processes and network
// namespaces of their own, and other processes' sockets.
package testkit

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
)

// Patience bounds what a test waits for.
const Patience = 20 * time.Second

// ErrTest is an error that nobody else has.
var ErrTest = errors.New("error of the test")

// Policies are all there are.
var Policies = []iwarp.Offload{iwarp.OffloadAuto, iwarp.OffloadNever, iwarp.OffloadPrefer, iwarp.OffloadRequire}

// Listen starts a Listener on a loopback port that ends with the test.
func Listen(t testing.TB, lc iwarp.ListenConfig) *iwarp.Listener {
	t.Helper()
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l.(*iwarp.Listener)
}

// Accept returns the next connection of l.
func Accept(t testing.TB, l *iwarp.Listener) net.Conn {
	t.Helper()
	require.NoError(t, l.SetDeadline(time.Now().Add(Patience)))
	c, err := l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(Patience)))
	return c
}

// Dial connects to l by policy.
func Dial(t testing.TB, l net.Listener, policy iwarp.Offload) net.Conn {
	t.Helper()
	d := iwarp.Dialer{Offload: policy, Timeout: Patience}
	c, err := d.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(Patience)))
	return c
}

// Meet dials while l accepts, as the set-up of an iWARP connection takes both ends, and returns the
// client's and the server's.
func Meet(t testing.TB, l net.Listener, dial func() net.Conn) (client, server net.Conn) {
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
	require.NoError(t, server.SetDeadline(time.Now().Add(Patience)))
	return client, server
}

// DialTCP connects to l as a client does that knows nothing of iWARP.
func DialTCP(t testing.TB, l net.Listener) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(Patience)))
	return c.(*net.TCPConn)
}

// Exchange sends text from a to b and back.
func Exchange(t testing.TB, a, b net.Conn, text string) {
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

// Echo serves the connections of l until it is closed.
func Echo(l net.Listener) {
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

// Eventually looks until ok holds, on the goroutine of its caller. It is for what no event reports.
func Eventually(t testing.TB, ok func() bool, what string) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for limit := time.Now().Add(Patience); !ok(); <-tick.C {
		if time.Now().After(limit) {
			Blocked(t, "in vain: "+what)
		}
	}
}

// OpError takes an error apart that must be a *net.OpError.
func OpError(t testing.TB, err error) *net.OpError {
	t.Helper()
	require.Error(t, err)
	op, ok := err.(*net.OpError)
	require.Truef(t, ok, "the outermost error is a %T: %v", err, err)
	return op
}

// Canceled returns a context that has ended.
func Canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// Reserve takes a port until the test ends.
func Reserve(t testing.TB, ps *iwarp.PortSpace, network, address string) *iwarp.Reservation {
	t.Helper()
	r, err := ps.Reserve(t.Context(), network, address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = r.Release() })
	return r
}

// ExchangeWithEcho sends text through c and reads it back.
func ExchangeWithEcho(t testing.TB, c net.Conn, text string) {
	t.Helper()
	require.NoError(t, c.SetDeadline(time.Now().Add(Patience)))
	_, err := io.WriteString(c, text)
	require.NoError(t, err)
	got := make([]byte, len(text))
	_, err = io.ReadFull(c, got)
	require.NoError(t, err)
	require.Equal(t, text, string(got))
}

// ClosedPort returns an address of this host where nobody listens.
func ClosedPort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return l.Addr().String()
}

// RequireSameError compares what callers can see of two errors of a dial.
func RequireSameError(t testing.TB, want, got error) {
	t.Helper()
	require.Error(t, got)
	require.Equal(t, want.Error(), got.Error())
	w, g := OpError(t, want), OpError(t, got)
	require.Equal(t, w.Op, g.Op)
	require.Equal(t, w.Net, g.Net)
	require.Equal(t, w.Source, g.Source)
	require.Equal(t, w.Addr, g.Addr)
	require.Equal(t, w.Timeout(), g.Timeout())
	require.Equal(t, w.Temporary(), g.Temporary())
}
