package shm

import (
	"context"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp/internal/netns"
	"github.com/rdmanet/iwarp/transport"
)

// service is a listener on all addresses of IPv4, and where to dial it.
func service(t testing.TB) (l transport.Listener, at netip.AddrPort) {
	l, err := New(nil).Listen(t.Context(), netip.MustParseAddrPort("0.0.0.0:0"), nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), l.Addr().Port())
}

// TestBadPlaces has the search go on where the first place is of no use, and not for long.
func TestBadPlaces(t *testing.T) {
	for name, squat := range map[string]func(t *testing.T, sa unix.Sockaddr){
		"accepts nobody": func(t *testing.T, sa unix.Sockaddr) {
			squatted(t, unix.SOCK_STREAM, sa)
			for { // until its queue is full
				fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
				require.NoError(t, err)
				t.Cleanup(func() { _ = unix.Close(fd) })
				if unix.Connect(fd, sa) == unix.EAGAIN {
					return
				}
			}
		},
		"of another kind": func(t *testing.T, sa unix.Sockaddr) { squatted(t, unix.SOCK_DGRAM, sa) },
	} {
		t.Run(name, func(t *testing.T) {
			_, at := service(t)
			squat(t, &unix.SockaddrUnix{Name: meetingName(at, false)})
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			m, err := meet(ctx, netip.Addr{}, site{netns.Current(), at})
			require.NoError(t, err)
			hangUp(m.c)
		})
	}
}

func squatted(t *testing.T, kind int, sa unix.Sockaddr) {
	fd, err := unix.Socket(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = unix.Close(fd) })
	require.NoError(t, unix.Bind(fd, sa))
	if kind == unix.SOCK_STREAM {
		require.NoError(t, unix.Listen(fd, 0))
	}
}

// TestOtherHosts are not looked for here.
func TestOtherHosts(t *testing.T) {
	port := uint16(4791)
	place, err := net.ListenUnix(unixNetwork, &net.UnixAddr{Name: meetingName(netip.AddrPortFrom(netip.IPv4Unspecified(), port), false), Net: unixNetwork})
	require.NoError(t, err)
	defer place.Close()
	_, err = meet(t.Context(), netip.Addr{}, site{netns.Current(), netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), port)})
	require.ErrorIs(t, err, transport.ErrNoRoute)
	require.NoError(t, place.SetDeadline(time.Now()))
	raw, err := place.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) {
		_, _, err = unix.Accept4(int(fd), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	}))
	require.Equal(t, unix.EAGAIN, err)
}

// TestNumberOfAnotherProcess trusts nobody whose number has become that of the service.
func TestNumberOfAnotherProcess(t *testing.T) {
	_, at := service(t)
	self := unix.Ucred{Pid: int32(os.Getpid()), Uid: uint32(os.Getuid()) + 1}
	require.NoError(t, trust(self, process{fd: -1}, at))
	pidfd := -1
	c := exec.Command("/bin/true")
	c.SysProcAttr = &syscall.SysProcAttr{PidFD: &pidfd}
	require.NoError(t, c.Run())
	if pidfd < 0 {
		t.Skip("the kernel has no descriptors of processes")
	}
	p := process{fd: pidfd}
	defer p.close()
	require.ErrorContains(t, trust(self, p, at), "another user")
	require.ErrorContains(t, trust(self, process{fd: -1, gone: true}, at), "another user")
}

// TestDistrustIsRemembered asks the kernel once, also where the answer is no.
func TestDistrustIsRemembered(t *testing.T) {
	a, b := socketPair(t)
	defer a.Close()
	defer b.Close()
	var k knownPeers
	nobody := site{1, netip.MustParseAddrPort("127.0.0.1:1")}
	first := k.check(a, nobody)
	require.ErrorIs(t, first, transport.ErrNoRoute)
	require.Same(t, first, k.check(a, nobody))
}

// TestWaitingRoom keeps network namespaces apart.
func TestWaitingRoom(t *testing.T) {
	var w waitingRoom
	a, b := socketPair(t)
	defer b.Close()
	at := netip.MustParseAddrPort("127.0.0.1:1")
	w.put(site{1, at}, &meeting{c: a})
	require.Nil(t, w.take(site{2, at}))
	m := w.take(site{1, at})
	require.Same(t, a, m.c)
	hangUp(m.c)
}

// TestReplacement has no dial fail while a listener takes the place of another, neither before nor
// after its request.
func TestReplacement(t *testing.T) {
	defer func(was time.Duration) { handoverPatience = was }(handoverPatience)
	handoverPatience = patience // on a busy machine all takes longer
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	held, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	defer held.Close()
	at := held.Addr().(*net.TCPAddr).AddrPort()
	tr := New(nil)
	listen := func(accepts bool, all *sync.WaitGroup) transport.Listener {
		l, err := tr.Listen(ctx, at, nil)
		require.NoError(t, err)
		if accepts {
			all.Go(func() {
				for {
					r, err := l.Accept(ctx)
					if err != nil {
						return
					}
					if err := r.Accept(ctx, nil); err != nil {
						t.Error(err)
					}
					_ = r.QueuePair().Close()
				}
			})
		}
		return l
	}
	dial := func() {
		c, err := tr.Dial(ctx, netip.AddrPort{}, at, nil)
		if err != nil {
			t.Error(err)
			return
		}
		if _, err = c.Connect(ctx, nil); err != nil {
			t.Error(err)
		}
		_ = c.QueuePair().Close()
	}
	for _, accepts := range []bool{true, false} { // in the second round what the old one has is not accepted
		var servers, clients sync.WaitGroup
		old := listen(accepts, &servers)
		if accepts {
			dial()
		}
		next := listen(true, &servers)
		for range 4 {
			clients.Go(func() {
				for range 10 {
					dial()
				}
			})
		}
		time.Sleep(5 * time.Millisecond) // not needed for the result: there are dials under way
		require.NoError(t, old.Close())
		clients.Wait()
		require.NoError(t, next.Close())
		servers.Wait()
	}
}
