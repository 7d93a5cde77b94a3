package iwarp

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"
	"weak"

	"github.com/rdmanet/iwarp/internal/netaddr"
)

// The set-up of an iWARP connection takes both ends. A program that dials a listener of its own and
// only then calls Accept, in one goroutine, as tests do, would wait for itself. With package net
// the kernel connects the two meanwhile; here the dial does what a call of Accept would, as long as
// none is under way. What it takes waits for Accept.

// ownListeners are the listeners of this process that may set up iWARP, by address; of several at
// one address, the last.
var ownListeners sync.Map // of netip.AddrPort to weak.Pointer[Listener]

// assistDelay is how long to wait where a call of Accept is under way, which is likely to take the
// connection.
const assistDelay = 5 * time.Millisecond

// announceSelf makes l known to dials of this process.
func (l *Listener) announceSelf() {
	l.at, l.self = netaddr.Of(l.tcp.Addr()), weak.Make(l)
	ownListeners.Store(l.at, l.self)
}

// forgetSelf ends what announceSelf began.
func (h *listening) forgetSelf() { ownListeners.CompareAndDelete(h.at, h.self) }

// ownListener returns the listener of this process that a connection from local to remote reaches,
// or nil.
func ownListener(local netip.Addr, remote netip.AddrPort) *Listener {
	remote = netaddr.Unmap(remote)
	places := []netip.AddrPort{remote}
	if remote.Addr().IsLoopback() || remote.Addr() == local.Unmap() {
		port := remote.Port()
		places = append(places, netip.AddrPortFrom(netip.IPv6Unspecified(), port), netip.AddrPortFrom(netip.IPv4Unspecified(), port))
	}
	for _, at := range places {
		if p, ok := ownListeners.Load(at); ok {
			return p.(weak.Pointer[Listener]).Value()
		}
	}
	return nil
}

// assist makes sure until stop is called that a connection from local to remote is taken, if it is
// to a listener of this process.
func assist(local netip.Addr, remote netip.AddrPort) (stop func()) {
	l := ownListener(local, remote)
	if l == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		if l.isAwaited() {
			t := time.NewTimer(assistDelay)
			defer t.Stop()
			select {
			case <-t.C:
			case <-ctx.Done():
				return
			}
		}
		l.assist(ctx)
	})
	return func() {
		cancel()
		done.Wait()
	}
}

// assistDial is assist for a connection of the kernel.
func assistDial(c *net.TCPConn) (stop func()) {
	return assist(c.LocalAddr().(*net.TCPAddr).AddrPort().Addr(), c.RemoteAddr().(*net.TCPAddr).AddrPort())
}

// isAwaited reports whether a call of Accept is under way.
func (l *Listener) isAwaited() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.calls > 0
}

// assist takes clients until the context ends or a call of Accept does so.
func (l *Listener) assist(ctx context.Context) {
	if l.enterAssistant() != nil {
		return
	}
	defer l.leaveAssistant()
	if l.isShared() { // what waits in the kernel may be for others; requests of devices are not
		select {
		case <-l.closing:
		case <-ctx.Done():
		}
		return
	}
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-l.closing:
		return
	case <-ctx.Done():
		return
	}
	defer context.AfterFunc(ctx, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.kick()
	})()
	for ctx.Err() == nil && l.mayAssist() {
		c, err := l.take()
		if err != nil {
			return // which the next call of Accept finds out for itself
		}
		l.deliver(c)
	}
}

func (l *Listener) enterAssistant() error {
	if err := l.enter(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.assistants++
	return nil
}

func (l *Listener) leaveAssistant() {
	l.mu.Lock()
	l.assistants--
	l.mu.Unlock()
	l.leave()
}

// mayAssist reports whether there is no call of Accept and nothing that prevents one, and then
// announces a take.
func (l *Listener) mayAssist() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state != listens || l.calls > l.assistants || l.isShared() || l.over() != nil {
		return false
	}
	l.announceTake()
	return true
}
