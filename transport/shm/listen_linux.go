package shm

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp/internal/netns"
	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/internal/setup"
)

const (
	// placeRetry is how often a listener tries to get its meeting place, if another process has it.
	placeRetry = 20 * time.Millisecond
	// acceptRetry is how long to wait after a passing failure.
	acceptRetry = 5 * time.Millisecond
)

// A listener reads requests off the accept path, so that a silent client delays nobody.
type listener struct {
	t        *Transport
	o        *transport.Options
	at       netip.AddrPort
	space    uint64 // network namespace
	only6    bool
	port     *net.TCPListener // holds the port, or nil if somebody else does
	requests chan *arrived
	pushes   chan struct{} // closed once push is set
	push     func(transport.Request) (again <-chan struct{}, taken bool)
	ctx      context.Context // ends with Close
	cancel   context.CancelFunc
	wg       sync.WaitGroup
	half     *setup.HalfOpen

	mu    sync.Mutex
	place *net.UnixListener  // nil while somebody else has it
	links map[*link]struct{} // on which a request may come
}

func (t *Transport) listen(at netip.AddrPort, only6 bool, port *net.TCPListener, o *transport.Options) (transport.Listener, error) {
	l := &listener{t: t, o: o, at: at, space: netns.Current(), only6: only6, port: port, requests: make(chan *arrived), pushes: make(chan struct{}), links: make(map[*link]struct{})}
	l.half = setup.NewHalfOpen(t.cfg.MaxHalfOpen)
	l.ctx, l.cancel = context.WithCancel(context.Background())
	place, err := l.takePlace()
	if err != nil && !errors.Is(err, syscall.EADDRINUSE) { // in which case it is free at some time
		l.cancel()
		if port != nil {
			_ = port.Close()
		}
		return nil, err
	}
	l.wg.Add(1)
	go l.serve(place)
	return l, nil
}

// takePlace makes the meeting place, or returns nil if the listener is closed.
func (l *listener) takePlace() (*net.UnixListener, error) {
	place, err := net.ListenUnix(unixNetwork, &net.UnixAddr{Name: meetingName(l.at, l.only6), Net: unixNetwork})
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx.Err() != nil {
		closePlace(place)
		return nil, nil
	}
	l.place = place
	return place, nil
}

// closePlace closes a meeting place. Those who wait to be accepted are hung up on first: the kernel
// would close what they have sent.
func closePlace(place *net.UnixListener) {
	if raw, err := place.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			_ = unix.Shutdown(int(fd), unix.SHUT_RDWR) // nobody comes in any more, so this ends
			for {
				c, _, err := unix.Accept4(int(fd), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
				if err == unix.EINTR {
					continue
				}
				if err != nil {
					return
				}
				hangUpOn(c)
				if graves.full() {
					graves.add(c)
				} else {
					_ = unix.Close(c)
				}
			}
		})
	}
	_ = place.Close()
}

func (l *listener) serve(place *net.UnixListener) {
	defer l.wg.Done()
	defer func() {
		if place != nil {
			closePlace(place)
		}
	}()
	for place == nil {
		if !sleep(l.ctx, placeRetry) {
			return
		}
		place, _ = l.takePlace()
	}
	for {
		for graves.full() { // a client may send more of what cannot be closed
			if !sleep(l.ctx, acceptRetry) {
				return
			}
		}
		c, err := place.AcceptUnix()
		if err != nil {
			if isLack(err) {
				l.shed()
			}
			if !sleep(l.ctx, acceptRetry) {
				return
			}
			continue
		}
		a := &setup.Arrival{Reset: func() { _ = c.CloseRead() }}
		if !l.half.Attend(l.ctx, &l.wg, a, func(ctx context.Context) { l.attend(ctx, c, a) }) {
			hangUp(c) // the listener is closed
		}
	}
}

// attend reads the request of a and hands it to Accept.
func (l *listener) attend(ctx context.Context, c *net.UnixConn, a *setup.Arrival) {
	if r, err := l.read(ctx, c); err == nil {
		l.hand(r, a)
	}
}

// again attends to a request that has come on a link.
func (l *listener) again(k *link, g *greeting) {
	a := &setup.Arrival{Reset: func() { _ = k.sock.CloseRead() }, Cancel: func() {}}
	q := newEnd(l.t, l.o)
	q.take(k)
	q.home = l
	r := &arrived{q: q, ask: g, fd: -1, linked: true}
	if l.ctx.Err() != nil || !l.half.TryEnter(a) { // the client is to wait in the queue of the place
		_ = r.answer(again, nil)
		return
	}
	defer l.half.Leave(a)
	if l.screen(r) == nil {
		l.hand(r, a)
	}
}

// hand hands r to Accept, or to the function of PushRequests.
func (l *listener) hand(r *arrived, a *setup.Arrival) {
	if !l.half.Spoken(a) {
		r.drop()
		return
	}
	select {
	case <-l.pushes:
	default:
		select {
		case l.requests <- r:
			return
		case <-l.pushes:
		case <-l.ctx.Done():
		}
	}
	for l.ctx.Err() == nil {
		later, taken := l.push(r)
		if taken {
			return
		}
		select {
		case <-later:
		case <-l.ctx.Done():
		}
	}
	_ = r.answer(again, nil)
}

// PushRequests implements transport.RequestPusher.
func (l *listener) PushRequests(f func(transport.Request) (again <-chan struct{}, taken bool)) {
	l.push = f
	close(l.pushes)
}

// read reads and checks the request of a client. After an error c is closed.
func (l *listener) read(ctx context.Context, c *net.UnixConn) (r *arrived, err error) {
	q, err := newQueuePair(c, l.t, l.o)
	if err != nil {
		hangUp(c)
		return nil, err
	}
	q.home = l
	r = &arrived{q: q, fd: -1}
	err = setup.Within(ctx, c, l.t.cfg.RequestTimeout, func() (err error) {
		r.ask, r.fd, err = hear(c)
		return err
	})
	if err == nil && r.fd < 0 {
		err = errGreeting
	}
	if err != nil {
		r.giveUp(err)
		return nil, err
	}
	return r, l.screen(r)
}

// screen checks a request. After an error the connection is closed.
func (l *listener) screen(r *arrived) (err error) {
	q := r.q
	if r.ask.kind != request {
		err = errGreeting
	} else {
		err = l.check(r.ask, &q.cred)
	}
	if err != nil {
		r.giveUp(err)
		return err
	}
	if allow := l.t.cfg.Allow; allow != nil && !allow(q.cred.Uid, q.cred.Gid) {
		return errors.Join(errNotAllowed, r.Reject(nil))
	}
	q.local, q.remote = r.ask.remote, r.ask.local
	q.keeps = true
	return nil
}

var (
	errNotAllowed = errors.New("client is not allowed")
	errElsewhere  = errors.New("client wants another address than that of the listener")
	errNotItsOwn  = errors.New("client claims an address or port that it cannot have")
)

// check compares what a client says about addresses with what is possible.
func (l *listener) check(g *greeting, cred *unix.Ucred) error {
	if g.scope != 0 {
		g.local, g.remote = withScope(g.local, g.scope), withScope(g.remote, g.scope)
	}
	to, from := g.remote.Addr(), g.local.Addr()
	switch {
	case g.remote.Port() != l.at.Port(), to.Is4() != from.Is4():
		return errElsewhere
	case !l.at.Addr().IsUnspecified():
		if to != l.at.Addr() {
			return errElsewhere
		}
	case to.Is4() && (l.at.Addr().Is6() && l.only6), to.Is6() && l.at.Addr().Is4(), !isHosts(to):
		return errElsewhere
	}
	if from != to && !isHosts(from) || g.local.Port() == 0 || g.local.Port() < privilegedPorts() && cred.Uid != 0 {
		return errNotItsOwn
	}
	return nil
}

func withScope(a netip.AddrPort, scope uint32) netip.AddrPort {
	if !a.Addr().Is6() || !a.Addr().IsLinkLocalUnicast() {
		return a
	}
	i, err := net.InterfaceByIndex(int(scope))
	if err != nil {
		return a
	}
	return netip.AddrPortFrom(a.Addr().WithZone(i.Name), a.Port())
}

// isHosts reports whether a is an address of this host.
func isHosts(a netip.Addr) bool {
	if a.IsLoopback() {
		return true
	}
	_, err := hosts.source(site{netns.Current(), netip.AddrPortFrom(a, 0)})
	return err == nil
}

// privilegedPorts is the first port that anybody may bind.
var privilegedPorts = sync.OnceValue(func() uint16 {
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	if n, perr := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 16); err == nil && perr == nil {
		return uint16(n)
	}
	return 1024
})

// Accept implements transport.Listener.
func (l *listener) Accept(ctx context.Context) (transport.Request, error) {
	if l.ctx.Err() != nil {
		return nil, net.ErrClosed
	}
	select {
	case r := <-l.requests:
		return r, nil
	case <-l.ctx.Done():
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

var _ transport.RequestPusher = (*listener)(nil)

func (l *listener) Addr() netip.AddrPort { return l.at }

// Close implements transport.Listener.
func (l *listener) Close() error {
	l.mu.Lock()
	if l.ctx.Err() != nil {
		l.mu.Unlock()
		return net.ErrClosed
	}
	l.cancel()
	if l.place != nil {
		_ = l.place.SetDeadline(past) // so that serve closes it
	}
	l.mu.Unlock()
	l.shed()
	l.wg.Wait()
	if l.port != nil {
		_ = l.port.Close()
	}
	return nil
}

// arrived is a connection in the making on the passive side.
type arrived struct {
	q      *queuePair
	ask    *greeting
	fd     int  // of the client's memory, or -1
	linked bool // it has come on a link
}

func (r *arrived) PrivateData() []byte            { return r.ask.private }
func (r *arrived) QueuePair() transport.QueuePair { return r.q }

// Accept implements transport.Request.
func (r *arrived) Accept(ctx context.Context, private []byte) error {
	if err := r.accept(ctx, private); err != nil {
		r.giveUp(err)
		return handshakeError(err)
	}
	return nil
}

func (r *arrived) accept(ctx context.Context, private []byte) (err error) {
	q := r.q
	if !served.claim(q) {
		return errServed
	}
	defer func() {
		if err != nil {
			served.release(q) // which a Close before that did not
		}
	}()
	theirs := r.fd
	r.fd = -1
	in, out, fd, err := r.memory(theirs)
	if err != nil {
		return err
	}
	err = r.within(ctx, q.t.cfg.ReplyTimeout, func() error {
		return r.say(&greeting{kind: consent, ird: int(q.Opts.IRD), ord: int(q.Opts.ORD), private: private}, fd)
	})
	if fd >= 0 {
		_ = unix.Close(fd)
	}
	if err != nil {
		in.close()
		out.close()
		return err
	}
	return q.start(in, out, int(q.Opts.IRD), min(int(q.Opts.ORD), r.ask.ird))
}

// memory returns the memory of both ends, and the descriptor of this end's if it is new.
func (r *arrived) memory(theirs int) (in, out *segment, fd int, err error) {
	q := r.q
	if k := q.takeKept(); k != nil {
		q.wide = k.wide
		return k.in, k.out, -1, nil
	}
	if out, err = q.agree(r.ask, theirs, request, nil, nil); err != nil {
		return nil, nil, -1, err
	}
	if in, fd, err = newSegment(&q.t.memory); err != nil {
		out.close()
	}
	return in, out, fd, err
}

// say sends a greeting. On a link, whose client may have left no room for it, that does not wait.
func (r *arrived) say(g *greeting, fd int) error {
	if r.linked {
		return sayNow(r.q.raw, g)
	}
	return say(r.q.sock, g, fd)
}

// within runs f, which is to say something, for no longer than the limit. On a link it does not
// wait.
func (r *arrived) within(ctx context.Context, limit time.Duration, f func() error) error {
	if !r.linked {
		return setup.Within(ctx, r.q.sock, limit, f)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return f()
}

// giveUp closes the connection because of err, of which the client is told only if it is not its
// fault.
func (r *arrived) giveUp(err error) {
	lacks := isLack(err)
	if lacks {
		r.q.home.shed()
	}
	switch {
	case lacks, errors.Is(err, errBurying):
		_ = r.answer(again, nil)
	case err == errServed:
		_ = r.answer(again, whyServed)
	default:
		r.drop()
	}
}

// drop closes the connection without a word.
func (r *arrived) drop() {
	bury(r.fd)
	r.fd = -1
	_ = r.q.Close()
}

// Reject implements transport.Request.
func (r *arrived) Reject(private []byte) error { return r.answer(refusal, private) }

// answer closes the connection with a word, which is not consent.
func (r *arrived) answer(kind greetingKind, private []byte) error {
	err := r.within(context.Background(), time.Second, func() error {
		return r.say(&greeting{kind: kind, private: private}, -1)
	})
	r.drop()
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
		err = nil // the client has given up
	}
	return err
}
