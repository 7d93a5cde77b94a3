package iwarp

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"
	"weak"

	"github.com/rdmanet/iwarp/internal/netaddr"
)

// The set-up of an iWARP connection takes both ends. A program that dials a listener of its own and
// only then calls Accept, in one goroutine, as tests do, would wait for itself. With package net
// the kernel connects the two meanwhile; here the dial does what a call of Accept would, as long as
// none is under way. What it takes waits for Accept.

// ownListeners are the listeners of this process that may set up iWARP, by address.
var ownListeners struct {
	sync.RWMutex
	m map[netip.AddrPort][]weak.Pointer[Listener]
}

// assistDelay is how long to wait where a call of Accept is under way, which is likely to take the
// connection.
const assistDelay = 5 * time.Millisecond

// announceSelf makes l known to dials of this process.
func (l *Listener) announceSelf() {
	l.at, l.self = netaddr.Of(l.tcp.Addr()), weak.Make(l)
	ownListeners.Lock()
	defer ownListeners.Unlock()
	if ownListeners.m == nil {
		ownListeners.m = make(map[netip.AddrPort][]weak.Pointer[Listener])
	}
	ownListeners.m[l.at] = append(slices.Clone(ownListeners.m[l.at]), l.self)
}

// forgetSelf ends what announceSelf began.
func (h *listening) forgetSelf() {
	ownListeners.Lock()
	defer ownListeners.Unlock()
	list := slices.Clone(ownListeners.m[h.at])
	if list = slices.DeleteFunc(list, func(p weak.Pointer[Listener]) bool { return p == h.self }); len(list) == 0 {
		delete(ownListeners.m, h.at)
		return
	}
	ownListeners.m[h.at] = list
}

// ownListenersOf returns the listeners of this process one of which a connection from local to
// remote reaches: of several at one address, the kernel chooses. The list must not be changed.
func ownListenersOf(local netip.Addr, remote netip.AddrPort) []weak.Pointer[Listener] {
	ownListeners.RLock()
	defer ownListeners.RUnlock()
	if len(ownListeners.m) == 0 {
		return nil
	}
	remote = netaddr.Unmap(remote)
	list := ownListeners.m[remote]
	if len(list) > 0 || !remote.Addr().IsLoopback() && remote.Addr() != local.Unmap() {
		return list
	}
	if remote.Addr().Is4() {
		list = ownListeners.m[netip.AddrPortFrom(netip.IPv4Unspecified(), remote.Port())]
	}
	if len(list) == 0 {
		list = ownListeners.m[netip.AddrPortFrom(netip.IPv6Unspecified(), remote.Port())]
	}
	return list
}

// assist makes sure until stop is called that a connection from local to remote is taken, if it is
// to a listener of this process. It returns nil if it is not.
func assist(local netip.Addr, remote netip.AddrPort) (a *assistant) {
	for _, p := range ownListenersOf(local, remote) {
		if l := p.Value(); l != nil && l.port.Reaches(remote.Addr()) {
			a = &assistant{l: l, next: a}
			a.ended.Add(1)
			delay := time.Duration(0)
			if l.isAwaited() {
				delay = assistDelay
			}
			a.timer = time.AfterFunc(delay, a.work)
		}
	}
	return a
}

// An assistant takes clients of a listener once its timer has expired, until stop.
type assistant struct {
	l     *Listener
	next  *assistant // of another listener that may get the connection
	timer *time.Timer
	ended sync.WaitGroup // for work, once the timer has expired

	mu      sync.Mutex
	stopped bool
	cancel  context.CancelFunc // set while it works
}

func (a *assistant) work() {
	defer a.ended.Done()
	a.mu.Lock()
	if a.stopped {
		a.mu.Unlock()
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	a.cancel = cancel
	a.mu.Unlock()
	defer cancel()
	a.l.assist(ctx)
}

// stop does nothing if a is nil.
func (a *assistant) stop() {
	for ; a != nil; a = a.next {
		a.end()
	}
}

func (a *assistant) end() {
	if a.timer.Stop() {
		return
	}
	a.mu.Lock()
	a.stopped = true
	cancel := a.cancel
	a.mu.Unlock()
	if cancel != nil {
		cancel()
	}
	a.ended.Wait()
}

// assistDial is assist for a connection of the kernel.
func assistDial(c *net.TCPConn) *assistant {
	return assist(c.LocalAddr().(*net.TCPAddr).AddrPort().Addr(), c.RemoteAddr().(*net.TCPAddr).AddrPort())
}

// isAwaited reports whether a call of Accept is under way.
func (l *Listener) isAwaited() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.calls > 0
}

// assist takes clients until the context ends, except while a call of Accept does so.
func (l *Listener) assist(ctx context.Context) {
	if l.enter(true) != nil {
		return
	}
	defer l.leave(true)
	if l.isShared() { // what waits in the kernel may be for others; requests of devices are not
		select {
		case <-l.closing:
		case <-ctx.Done():
		}
		return
	}
	for {
		select {
		case l.turn <- struct{}{}:
		case <-l.closing:
			return
		case <-ctx.Done():
			return
		}
		over := l.assistInTurn(ctx)
		<-l.turn
		if over {
			return
		}
		runtime.Gosched() // the call that the turn is for may not be in the queue for it yet
	}
}

// assistInTurn takes clients until the context ends, or until a call of Accept wants the turn. It
// reports whether there is nothing more to do for an assistant.
func (l *Listener) assistInTurn(ctx context.Context) (over bool) {
	defer context.AfterFunc(ctx, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.kick()
	})()
	for {
		switch may, over := l.mayAssist(ctx); {
		case over:
			return true
		case !may:
			return false
		}
		c, err := l.take()
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) { // one that SetDeadline has set meanwhile
			return true // which the next call of Accept finds out for itself
		}
		l.deliver(c)
	}
}

// mayAssist reports whether there is no call of Accept and nothing that prevents one but its
// deadline, and then announces a take. over is true where there will be no more to take.
func (l *Listener) mayAssist(ctx context.Context) (may, over bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	// The context is looked at with the lock, so that whoever ends it later finds a take to kick.
	if ctx.Err() != nil || l.state != listens || l.isShared() {
		return false, true
	}
	if l.calls > l.assistants {
		return false, false
	}
	l.announceTake(time.Time{})
	return true, false
}
