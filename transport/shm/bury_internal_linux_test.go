package shm

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp/internal/testkit"
	"github.com/rdmanet/iwarp/transport"
)

// lingering returns a socket whose close blocks for an hour, unless the function is called that it
// returns. The caller closes its own descriptor, which does not block while there is another.
func lingering(t testing.TB) (fd int, relax func()) {
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	defer l.Close()
	c, err := net.DialTCP("tcp", nil, l.Addr().(*net.TCPAddr))
	require.NoError(t, err)
	peer, err := l.AcceptTCP()
	require.NoError(t, err)
	require.NoError(t, c.SetLinger(3600))
	require.NoError(t, c.SetWriteDeadline(time.Now().Add(50*time.Millisecond)))
	for err == nil { // until the peer takes nothing more
		_, err = c.Write(make([]byte, 1<<20))
	}
	raw, err := c.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(at uintptr) {
		fd, err = unix.FcntlInt(at, unix.F_DUPFD_CLOEXEC, 0)
	}))
	require.NoError(t, err)
	require.NoError(t, unix.SetNonblock(fd, false)) // for the close of one that does not block does not linger
	go func() { _ = c.Close() }()
	return fd, func() { _ = peer.SetLinger(0); _ = peer.Close() }
}

// within fails the test if f takes so long that it must be blocked.
func within(t testing.TB, f func()) {
	t.Helper()
	testkit.Background(t, f)()
}

// allowRights makes the kernel take descriptors for q, as older ones do.
func allowRights(t testing.TB, q *queuePair) {
	require.NoError(t, q.raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, soPassRight, 1) }))
}

// TestDescriptorsWhoseCloseBlocks has peers send such descriptors wherever they can. Nobody waits
// for them.
func TestDescriptorsWhoseCloseBlocks(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	memory, fd, err := ringOf(ringSize)
	require.NoError(t, err)
	defer unix.Close(fd)
	defer memory.close()
	for name, tt := range map[string]struct {
		fds     func(bad int) []int
		whole   bool // the greeting
		accepts bool // the request comes to Accept
		late    bool // the descriptor comes on a connection that is up
	}{
		"as the memory":       {fds: func(bad int) []int { return []int{bad} }, whole: true, accepts: true},
		"beside the memory":   {fds: func(bad int) []int { return []int{fd, bad} }, whole: true},
		"more than few":       {fds: func(bad int) []int { return []int{fd, fd, fd, fd, fd, fd, bad} }, whole: true},
		"with half a request": {fds: func(bad int) []int { return []int{bad} }},
		"as the bell":         {fds: func(int) []int { return []int{fd} }, whole: true, accepts: true, late: true},
	} {
		t.Run(name, func(t *testing.T) {
			bad, relax := lingering(t)
			defer relax()
			l, err := New(nil).Listen(ctx, netip.MustParseAddrPort("127.0.0.1:0"), nil)
			require.NoError(t, err)
			ask := greeting{kind: request, ird: 1, ord: 1, local: netip.MustParseAddrPort("127.0.0.1:50000"), remote: l.Addr()}
			say := ask.append(nil)
			if !tt.whole {
				say = say[:10]
			}
			c, err := net.DialUnix(unixNetwork, nil, &net.UnixAddr{Name: meetingName(l.Addr(), false), Net: unixNetwork})
			require.NoError(t, err)
			defer hangUp(c)
			_, _, err = c.WriteMsgUnix(say, unix.UnixRights(tt.fds(bad)...), nil)
			require.NoError(t, err)
			if tt.accepts {
				within(t, func() {
					r, err := l.Accept(ctx)
					require.NoError(t, err)
					err = r.Accept(ctx, nil)
					if !tt.late {
						require.ErrorIs(t, err, transport.ErrNotIWARP)
						return
					}
					require.NoError(t, err)
					q := r.QueuePair()
					allowRights(t, q.(*queuePair))
					_, _, err = c.WriteMsgUnix([]byte{1}, unix.UnixRights(bad), nil)
					require.NoError(t, err)
					_ = unix.Close(bad)
					within(t, func() { _ = q.Wait(time.Now().Add(time.Millisecond)) })
					within(t, func() { _ = q.Close() })
				})
			} else if tt.whole {
				_ = unix.Close(bad)
				within(t, func() { _, _ = c.Read(make([]byte, 1)) })
			}
			if !tt.late && (tt.accepts || !tt.whole) {
				_ = unix.Close(bad)
			}
			within(t, func() { require.NoError(t, l.Close()) })
		})
	}
}

// TestCloseWhileClientsWait hangs up on clients that nobody has accepted.
func TestCloseWhileClientsWait(t *testing.T) {
	bad, relax := lingering(t)
	defer relax()
	place, err := net.ListenUnix(unixNetwork, &net.UnixAddr{Name: "@iwarp/shm/test", Net: unixNetwork})
	require.NoError(t, err)
	c, err := net.DialUnix(unixNetwork, nil, place.Addr().(*net.UnixAddr))
	require.NoError(t, err)
	defer c.Close()
	_, _, err = c.WriteMsgUnix([]byte{1}, unix.UnixRights(bad), nil)
	require.NoError(t, err)
	_ = unix.Close(bad)
	within(t, func() { closePlace(place) })
	_, err = c.Read(make([]byte, 1))
	require.Error(t, err)
}

// TestGraveyard takes no more from peers while much waits to be closed.
func TestGraveyard(t *testing.T) {
	var g graveyard
	g.diggers = gravediggers // all of them blocked
	for range mostGraves {
		require.False(t, g.full())
		r, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		require.NoError(t, err)
		g.add(r)
	}
	require.True(t, g.full())
	g.dig()
	require.False(t, g.full())
}
