package guard

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp/internal/sockfilter"
)

const key = "MPA ID Req Frame"

// guarded returns a client, and the other end with the guard that it has.
func guarded(t *testing.T) (client, server *net.TCPConn, g Guard) {
	t.Helper()
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	require.True(t, KeepStarts(l.(*net.TCPListener), false))
	d, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = d.Close() })
	c, err := l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	g = On(c.(*net.TCPConn), new(Start), key, 0, 4)
	require.NotZero(t, g.rules)
	return d.(*net.TCPConn), c.(*net.TCPConn), g
}

// drops returns how many segments to c the kernel has dropped.
func drops(t *testing.T, c *net.TCPConn) (n uint32) {
	t.Helper()
	rc, err := c.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, rc.Control(func(fd uintptr) { n = dropsOf(int(fd)) }))
	return n
}

// TestGuardLooks takes nothing but a request that was dropped for one, neither keep-alive probes,
// which are dropped as well, nor segments that a filter of the user's has dropped.
func TestGuardLooks(t *testing.T) {
	t.Parallel()
	const patience, often = 20 * time.Second, 5 * time.Millisecond
	client, server, g := guarded(t)
	require.NoError(t, client.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second}))
	require.Eventually(t, func() bool { return drops(t, server) > 0 }, patience, often)
	dropped, over := g.look(server)
	require.False(t, dropped)
	require.False(t, over)
	_, err := io.WriteString(client, key)
	require.NoError(t, err)
	require.Eventually(t, func() bool { dropped, _ := g.look(server); return dropped }, patience, often)

	client, server, g = guarded(t)
	_, err = io.WriteString(client, "hello")
	require.NoError(t, err)
	require.Eventually(t, func() bool { _, over := g.look(server); return over }, patience, often)

	client, server, g = guarded(t)
	rc, err := server.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, rc.Control(func(fd uintptr) {
		err = sockfilter.Attach(int(fd), []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 0}})
	}))
	require.NoError(t, err)
	_, err = io.WriteString(client, "hello")
	require.NoError(t, err)
	require.Eventually(t, func() bool { return drops(t, server) > 0 }, patience, often)
	dropped, over = g.look(server)
	require.False(t, dropped)
	require.True(t, over)
}
