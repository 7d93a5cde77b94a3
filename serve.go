package iwarp

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/rdmanet/iwarp/internal/guard"
	"github.com/rdmanet/iwarp/internal/redirect"
	"github.com/rdmanet/iwarp/internal/sniff"
	"github.com/rdmanet/iwarp/transport"
)

// tellingPart is how many bytes of the MPA key no other protocol is likely to begin with.
const tellingPart = 4

// admit records a connection that is yet to be identified. If there are too many, the oldest gives
// way.
func (l *Listener) admit(h *halfOpen) {
	if l.half.add(h) {
		l.counters.overflowed.Add(1)
	}
	l.await(h, l.patience(h))
}

// await sets how long h is waited for, from the time it came.
func (l *Listener) await(h *halfOpen, patience time.Duration) {
	l.half.await(h, h.since.Add(patience))
}

// patience is how long a client may take to send the MPA key. It need not be short where no plain
// TCP client hopes for an answer, nor for a client that has begun to send the key.
func (l *Listener) patience(h *halfOpen) time.Duration {
	wait := l.silence.patience(h.c)
	if l.policy == OffloadRequire || h.said >= tellingPart {
		return max(wait, l.config.HandshakeTimeout)
	}
	return wait
}

// identify waits for the first bytes of a connection and acts on them. It runs as long as the
// connection is half-open.
func (l *Listener) identify(h *halfOpen) {
	defer l.forget(h)
	first, err := sniff.FirstBytes(h.c)
	for h.said < tellingPart && first.N >= tellingPart && errors.Is(err, os.ErrDeadlineExceeded) {
		h.said = first.N
		l.await(h, l.patience(h))
		first, err = sniff.FirstBytes(h.c)
	}
	h.said = first.N
	if first.Verdict == sniff.IWARPRequest {
		l.shakeKernel(h)
		return
	}
	cut := l.half.decide(h)
	l.half.queue(h)
	switch {
	case l.isClosed(), cut && h.said > 0 && first.Verdict != sniff.PlainTCP:
		reset(h.c)
	case first.Verdict == sniff.PlainTCP, errors.Is(err, os.ErrDeadlineExceeded):
		_ = h.c.SetReadDeadline(time.Time{})
		if first.Verdict == sniff.PlainTCP {
			l.deliver(client{Conn: l.plain(h.c, ReasonNotIWARP, nil)}) // none if it is refused
		} else {
			if !cut && h.said == 0 {
				l.silence.kept()
			}
			l.deliver(client{Conn: h.c, silent: h})
		}
	default:
		// The connection broke before it said anything.
		l.counters.failed.Add(1)
		_ = h.c.Close()
	}
}

func (l *Listener) shakeKernel(h *halfOpen) {
	l.silence.broken()
	_ = h.c.SetReadDeadline(time.Time{})
	request := func(ctx context.Context) (transport.Request, error) { return l.kernel.Server(ctx, h.c, nil) }
	l.shake(h, request, func(device string) Info {
		return Info{Transport: l.kernel.Name(), Device: device, Offloaded: l.kernel.Offloads()}
	})
}

// shake carries out the set-up of an iWARP connection, and reports whether it succeeded.
func (l *Listener) shake(h *halfOpen, request func(context.Context) (transport.Request, error), info func(device string) Info) bool {
	ctx, cancel := context.WithTimeout(l.ctx, l.config.HandshakeTimeout)
	defer cancel()
	if !l.half.shaking(h, cancel) {
		cancel()
	}
	c, err := l.serve(ctx, h, request)
	cut := l.half.decide(h)
	if err != nil {
		if !errors.Is(err, redirect.ErrSent) {
			l.counters.failed.Add(1)
		}
		switch {
		case h.c == nil:
		case cut:
			reset(h.c)
		default:
			_ = h.c.Close()
		}
		return false
	}
	l.counters.iwarp.Add(1)
	path := info(c.Attributes().Device)
	if h.c == nil {
		path.Ignored = l.config.toDevice(c)
	}
	l.deliver(client{Conn: remember(c, path)}) // or else it is closed
	return true
}

// forget ends what admit began, and a Drain that waits for the last one.
func (l *Listener) forget(h *halfOpen) {
	l.half.remove(h)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.settle()
	if !l.accepting { // but waits for room
		l.kick()
	}
}

// lookAgain returns a client that had been silent for as long as it may be. If it has spoken by
// now, that counts, and if it still sends an MPA request, the application must not read it.
func (l *Listener) lookAgain(c client) client {
	h := c.silent
	var g guard.Guard
	if l.guards {
		g = guard.On(h.c, &h.start, sniff.Key, h.said, max(1, tellingPart-h.said))
	}
	first, err := sniff.Look(h.c, false)
	switch {
	case first.Verdict == sniff.IWARPRequest, first.N > h.said && first.N >= tellingPart && first.Verdict == sniff.Undecided && err == nil:
		g.Lift(h.c)
		h.said = first.N
		l.find(h)
		return client{}
	case first.Verdict == sniff.PlainTCP:
		g.Lift(h.c)
		return client{Conn: l.plain(h.c, ReasonNotIWARP, nil)}
	}
	p := l.plain(h.c, ReasonSilent, nil)
	if p != nil {
		l.counters.silent.Add(1)
		g.Watch(h.c, l.silence.broken)
	}
	return client{Conn: p}
}
