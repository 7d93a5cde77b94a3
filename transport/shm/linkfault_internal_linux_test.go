package shm

import (
	"context"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp/internal/netns"
	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/internal/setup"
)

// An attended has a listener whose connections the test accepts, and a client.
type attended struct {
	t      *testing.T
	tr     *Transport // of the listener
	server *listener
	client *Transport
	ctx    context.Context
}

func newAttended(t *testing.T, c *Config, at string) *attended {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	l := &attended{t: t, tr: New(c), client: New(nil), ctx: ctx}
	l.client.room.keeps, l.client.room.age, l.tr.serves = patience, patience, time.Hour
	l.server = l.listen(netip.MustParseAddrPort(at))
	t.Cleanup(func() { l.client.room.clear() })
	return l
}

func (l *attended) listen(at netip.AddrPort) *listener {
	s, err := l.tr.Listen(l.ctx, at, nil)
	require.NoError(l.t, err)
	l.t.Cleanup(func() { _ = s.Close() })
	return s.(*listener)
}

// site is where the client dials.
func (l *attended) site() site {
	return site{netns.Current(), netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), l.server.at.Port())}
}

func (l *attended) dial() *connector {
	c, err := l.client.Dial(l.ctx, netip.AddrPort{}, l.site().at, nil)
	require.NoError(l.t, err)
	return c.(*connector)
}

// accept waits for a request at a listener.
func (l *attended) accept(at *listener) *arrived {
	r, err := at.Accept(l.ctx)
	require.NoError(l.t, err)
	return r.(*arrived)
}

// connect returns both ends of a new connection, which comes to a listener.
func (l *attended) connect(at *listener) (a, b *queuePair) {
	c := l.dial()
	var err error
	var all sync.WaitGroup
	all.Go(func() { _, err = c.Connect(l.ctx, nil) })
	r := l.accept(at)
	require.NoError(l.t, r.Accept(l.ctx, nil))
	all.Wait()
	require.NoError(l.t, err)
	return c.q, r.q
}

// links has so many connections end, of each of which a link is left.
func (l *attended) links(n int) {
	var as, bs []*queuePair
	for range n {
		a, b := l.connect(l.server)
		as, bs = append(as, a), append(bs, b)
	}
	for i := range as {
		_, _ = bs[i].Close(), as[i].Close()
	}
	require.Equal(l.t, n, l.client.room.links)
	require.Len(l.t, l.kept(), n)
}

// ask asks for a connection on a link.
func (l *attended) ask() *meeting {
	m := l.client.room.take(l.site())
	require.NotNil(l.t, m)
	require.NotNil(l.t, m.link)
	l.t.Cleanup(m.close)
	g := &greeting{kind: request, ird: 1, ord: 1, local: netip.MustParseAddrPort("127.0.0.1:50000"), remote: l.site().at}
	require.NoError(l.t, say(m.c, g, -1))
	return m
}

// kept returns the links of the listener.
func (l *attended) kept() (list []*link) {
	l.server.mu.Lock()
	defer l.server.mu.Unlock()
	for k := range l.server.links {
		list = append(list, k)
	}
	return list
}

// loses waits until the listener has no links.
func (l *attended) loses() {
	for end := time.Now().Add(patience); len(l.kept()) > 0; time.Sleep(time.Millisecond) {
		require.True(l.t, time.Now().Before(end), "links are kept")
	}
}

// TestCloseDuringConnectOnALink gives the memory of the link back once.
func TestCloseDuringConnectOnALink(t *testing.T) {
	l := newAttended(t, nil, "127.0.0.1:0")
	go func() {
		for {
			r, err := l.server.Accept(context.Background())
			if err != nil {
				return
			}
			_ = r.Accept(context.Background(), nil)
			_ = r.QueuePair().Close()
		}
	}()
	for range 50 {
		c := l.dial()
		_, err := c.Connect(l.ctx, nil)
		require.NoError(t, err)
		require.NoError(t, c.q.Close())
		for !l.client.room.has(l.site()) {
			require.NoError(t, l.ctx.Err())
			time.Sleep(time.Millisecond)
		}
		c = l.dial()
		require.NotNil(t, c.q.kept)
		var all sync.WaitGroup
		all.Go(func() { _, _ = c.Connect(l.ctx, nil) })
		all.Go(func() { _ = c.q.Close() })
		all.Wait()
	}
	l.client.room.clear()
	require.Zero(t, l.client.memory.sum.Load())
}

// TestOneGetsTheLink has Close and Connect take it at once.
func TestOneGetsTheLink(t *testing.T) {
	for range 100 {
		q := newEnd(New(nil), nil)
		q.kept = &link{}
		var got [4]*link
		var all sync.WaitGroup
		for i := range got {
			all.Go(func() { got[i] = q.takeKept() })
		}
		all.Wait()
		n := 0
		for _, k := range got {
			if k != nil {
				n++
			}
		}
		require.Equal(t, 1, n)
	}
}

// TestServerWithoutMemoryEndsLinks has a server that has none left for a client give up what it
// keeps for others.
func TestServerWithoutMemoryEndsLinks(t *testing.T) {
	l := newAttended(t, &Config{MaxMemory: 4 * ringSize}, "127.0.0.1:0")
	l.links(1)
	l.tr.memory.limit = ringSize // which the link has
	defer l.client.room.clear()
	l.client = New(nil)
	ctx, cancel := context.WithCancel(l.ctx)
	c := l.dial()
	var all sync.WaitGroup
	all.Go(func() { _, _ = c.Connect(ctx, nil) })
	require.ErrorIs(t, l.accept(l.server).Accept(ctx, nil), syscall.ENOBUFS)
	l.loses()
	cancel()
	all.Wait()
}

// descriptorLimit sets how many descriptors the process may have, until back is called.
func descriptorLimit(t *testing.T, most uint64) (back func()) {
	var was unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &was))
	back = sync.OnceFunc(func() { require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &was)) })
	t.Cleanup(back)
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: most, Max: was.Max}))
	return back
}

// TestServerWithoutDescriptorsEndsLinks has a server that cannot accept for want of one give up
// those of links.
func TestServerWithoutDescriptorsEndsLinks(t *testing.T) {
	l := newAttended(t, nil, "127.0.0.1:0")
	l.links(1)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(fd)
	back := descriptorLimit(t, 0)
	defer back()
	require.NoError(t, unix.Connect(fd, &unix.SockaddrUnix{Name: meetingName(l.server.at, false)}))
	l.loses()
}

// TestPortWithoutDescriptors has a dial take that of its port from links.
func TestPortWithoutDescriptors(t *testing.T) {
	const links = 8
	l := newAttended(t, nil, "127.0.0.1:0")
	l.links(links)
	list, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	most := 0
	for _, e := range list {
		n, err := strconv.Atoi(e.Name())
		require.NoError(t, err)
		most = max(most, n)
	}
	back := descriptorLimit(t, uint64(most+1))
	defer back()
	var all []int
	defer func() {
		for _, fd := range all {
			_ = unix.Close(fd)
		}
	}()
	for {
		fd, err := unix.Dup(0)
		if err != nil {
			require.Equal(t, unix.EMFILE, err)
			break
		}
		all = append(all, fd)
	}
	c := l.dial()
	require.NoError(t, c.Close())
}

// TestHalfOpenBoundsLinks has those who ask on links count as half-open, and tells the ones that
// there is no room for to ask where they have to wait for it.
func TestHalfOpenBoundsLinks(t *testing.T) {
	was := setup.RequestGrace
	setup.RequestGrace = time.Hour // so that nobody has to give way
	t.Cleanup(func() { setup.RequestGrace = was })
	l := newAttended(t, &Config{MaxHalfOpen: 1}, "127.0.0.1:0")
	l.links(2)
	require.Eventually(t, func() bool { // until the second one has left
		a := &setup.Arrival{Reset: func() {}, Cancel: func() {}}
		free := l.server.half.TryEnter(a)
		if free {
			l.server.half.Leave(a)
		}
		return free
	}, patience, time.Millisecond)
	answers := make(chan *greeting)
	var all sync.WaitGroup
	for range 2 {
		m := l.ask()
		require.NoError(t, m.c.SetReadDeadline(time.Now().Add(patience)))
		all.Go(func() {
			g, _, err := hearNext(m.c)
			if err != nil {
				t.Error(err)
				g = &greeting{}
			}
			answers <- g
		})
	}
	require.Equal(t, again, (<-answers).kind)
	r := l.accept(l.server)
	require.NoError(t, r.Accept(l.ctx, nil))
	require.Equal(t, consent, (<-answers).kind)
	all.Wait()
	require.NoError(t, r.q.Close())
}

// TestLinkWithoutRoom does not have a server wait for a client that has let its socket fill up.
func TestLinkWithoutRoom(t *testing.T) {
	l := newAttended(t, &Config{ReplyTimeout: time.Hour}, "127.0.0.1:0")
	l.links(1)
	var err error
	require.NoError(t, l.kept()[0].raw.Control(func(fd uintptr) {
		for err == nil {
			err = unix.Send(int(fd), bellByte, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		}
	}))
	require.Equal(t, unix.EAGAIN, err)
	l.ask()
	require.ErrorIs(t, l.accept(l.server).Accept(l.ctx, nil), transport.ErrHandshakeTimeout)
}

// TestTimeoutOnALink asks a service that does not answer once.
func TestTimeoutOnALink(t *testing.T) {
	l := newAttended(t, nil, "127.0.0.1:0")
	l.links(1)
	c := l.dial()
	first := c.q.sock
	require.NotNil(t, c.q.kept)
	l.client.cfg.ReplyTimeout = time.Millisecond
	_, err := c.Connect(l.ctx, nil)
	require.ErrorIs(t, err, transport.ErrHandshakeTimeout)
	require.Same(t, first, c.q.sock)
}

// TestOldLinkIsNotKept has clients of a listener on all addresses find one on the very address.
func TestOldLinkIsNotKept(t *testing.T) {
	l := newAttended(t, nil, "0.0.0.0:0")
	l.client.room.age = 0
	a, b := l.connect(l.server)
	special := l.listen(l.site().at)
	_, _ = b.Close(), a.Close()
	a, b = l.connect(special)
	_, _ = b.Close(), a.Close()
}

// TestLinkOfSilentServerGivesWay keeps links whose server is done with them rather than others.
func TestLinkOfSilentServerGivesWay(t *testing.T) {
	l := newAttended(t, nil, "127.0.0.1:0")
	for range mostLinks {
		a, b := l.connect(l.server)
		require.NoError(t, a.Close())
		defer b.Close()
	}
	require.False(t, l.client.room.has(l.site()))
	a, b := l.connect(l.server)
	_, _ = b.Close(), a.Close()
	require.True(t, l.client.room.has(l.site()))
	require.Equal(t, mostLinks, l.client.room.links)
}
