package iwarp

import (
	"context"
	"errors"
	"net"
	"os"
	"time"

	"github.com/rdmanet/iwarp/transport"
)

// start lets the listener work. Each goroutine is counted in l.workers.
func (l *Listener) start() {
	l.workers.Add(1 + len(l.devices))
	go l.serveKernel()
	for _, d := range l.devices {
		go l.serveDevice(d)
	}
}

// serveKernel accepts connections of the kernel and has them made out. It waits for no client.
func (l *Listener) serveKernel() {
	defer l.workers.Done()
	for {
		c, err := l.tcp.AcceptTCP()
		if err != nil && l.draining.Load() {
			return
		}
		if err != nil {
			// An error is for one call of Accept, so that the loop is no faster than its user.
			select {
			case l.errs <- err:
				continue
			case <-l.done:
				return
			}
		}
		setKeepAlive(c, l.config.KeepAlive, l.config.KeepAliveConfig)
		if l.kernel == nil || isPlain(c) {
			if !l.plain(c, ReasonNotIWARP) {
				return
			}
			continue
		}
		if !l.acquire() {
			reset(c)
			return
		}
		_ = c.SetReadDeadline(time.Now().Add(l.patience()))
		h := &halfOpen{c: c}
		l.half.add(h)
		if isClosed(l.done) {
			l.half.wake() // Close may have come by before the add
		}
		l.workers.Add(1)
		go l.makeOut(h)
	}
}

// isPlain reports whether c has already said enough to be plain TCP.
func isPlain(c *net.TCPConn) bool {
	v, err := sniff(c, false)
	return v == plainTCP && err == nil
}

// patience is how long a client may take to send the MPA key. Where no plain TCP client hopes for an answer it need not be short.
func (l *Listener) patience() time.Duration {
	if l.policy == OffloadRequire {
		return max(l.config.FirstByteTimeout, l.config.HandshakeTimeout)
	}
	return l.config.FirstByteTimeout
}

// acquire takes a place for a half-open connection, and where there is none has the oldest give way.
func (l *Listener) acquire() bool {
	for {
		select {
		case l.slots <- struct{}{}:
			return !isClosed(l.done)
		default:
		}
		l.half.cutOldest(&l.counters.overflowed)
		select {
		case l.slots <- struct{}{}:
			return true
		case <-l.stayed: // the one that was cut short turned out to have more to say
		case <-l.done:
			return false
		}
	}
}

func (l *Listener) leave(h *halfOpen) {
	l.half.remove(h)
	<-l.slots
}

// makeOut waits for the first bytes of a connection and acts on them. It runs as long as the connection is half-open.
func (l *Listener) makeOut(h *halfOpen) {
	defer l.workers.Done()
	defer l.leave(h)
	v, err := firstBytes(h.c)
	switch {
	case isClosed(l.done):
		reset(h.c)
	case v == iwarpRequest:
		l.shake(h, func(ctx context.Context) (transport.Request, error) { return l.kernel.Server(ctx, h.c, nil) }, func(device string) Info {
			return Info{Transport: l.kernel.Name(), Device: device, Offloaded: l.kernel.Offloads()}
		})
	case v == plainTCP, errors.Is(err, os.ErrDeadlineExceeded):
		l.half.enter(h, decided, nil)
		_ = h.c.SetReadDeadline(time.Time{})
		reason := ReasonNotIWARP
		if v != plainTCP {
			reason = ReasonSilent
		}
		l.plain(h.c, reason)
	default:
		// The connection broke before it said anything.
		l.counters.failed.Add(1)
		_ = h.c.Close()
	}
}

// plain hands a connection to Accept as it is. It returns false if the listener is closed.
func (l *Listener) plain(c *net.TCPConn, reason Reason) bool {
	if l.policy == OffloadRequire {
		l.counters.refused.Add(1)
		_ = c.Close()
		return !isClosed(l.done)
	}
	if reason == ReasonSilent {
		l.counters.silent.Add(1)
	}
	l.counters.plain.Add(1)
	return l.deliver(remember(c, plainInfo(reason, nil)))
}

// shake carries out the set-up of an iWARP connection, and reports whether it came about.
func (l *Listener) shake(h *halfOpen, request func(context.Context) (transport.Request, error), info func(device string) Info) bool {
	ctx, cancel := context.WithTimeout(l.ctx, l.config.HandshakeTimeout)
	defer cancel()
	if l.half.enter(h, shaking, cancel) {
		select {
		case l.stayed <- struct{}{}:
		default:
		}
	}
	if h.c != nil {
		_ = h.c.SetReadDeadline(time.Time{})
	}
	c, err := l.serve(ctx, h, request)
	l.half.enter(h, decided, nil)
	if err != nil {
		if !errors.Is(err, errRedirected) {
			l.counters.failed.Add(1)
		}
		if h.c != nil {
			_ = h.c.Close()
		}
		return false
	}
	l.counters.iwarp.Add(1)
	if h.c == nil {
		setDeviceKeepAlive(c, l.config.KeepAlive, l.config.KeepAliveConfig)
	}
	l.deliver(remember(c, info(c.Attributes().Device))) // or else it is closed
	return true
}

// deliver hands c to Accept, and waits while it is behind.
func (l *Listener) deliver(c net.Conn) bool {
	select {
	case l.ready <- c:
		return true
	case <-l.done:
		reset(c)
		return false
	}
}
