package iwarp

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/rdmanet/iwarp/internal/brief"
	"github.com/rdmanet/iwarp/internal/guard"
	"github.com/rdmanet/iwarp/internal/redirect"
	"github.com/rdmanet/iwarp/internal/sniff"
	"github.com/rdmanet/iwarp/internal/statpage"
	"github.com/rdmanet/iwarp/rdmanet"
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
	first, err := sniff.FirstBytes(h.c, l.errors())
	for h.said < tellingPart && first.N >= tellingPart && errors.Is(err, os.ErrDeadlineExceeded) {
		h.said = first.N
		l.await(h, l.patience(h))
		first, err = sniff.FirstBytes(h.c, l.errors())
	}
	h.said = first.N
	if first.Verdict == sniff.IWARPRequest {
		if c := l.shakeKernel(h); c != nil {
			l.deliver(client{Conn: c}) // or else it is closed
		}
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

// errors says who gets an error of a client that is yet to be identified: the application, if it
// gets plain connections.
func (l *Listener) errors() sniff.Errors {
	if l.policy == OffloadRequire {
		return sniff.Take
	}
	return sniff.Leave
}

// shakeKernel sets up the iWARP connection that has been asked for by a connection of the kernel.
// It returns nil where that fails.
func (l *Listener) shakeKernel(h *halfOpen) *rdmanet.Conn {
	l.silence.broken()
	ctx := l.handshake(h, context.Background()) // which Close ends by way of the set
	defer ctx.End()
	l.sharing.setUp(h.place)
	r, err := l.kernel.Server(ctx, h.c, nil)
	var c *rdmanet.Conn
	if err == nil {
		c, err = l.serve(ctx, h, r)
	}
	l.sharing.made(h.place, c)
	if cut := l.half.decide(h); err != nil {
		l.countFailed(err)
		if cut {
			reset(h.c)
		} else {
			_ = h.c.Close()
		}
		return nil
	}
	l.counters.iwarp.Add(1)
	return remember(c, Info{Transport: l.kernel.Name(), Device: c.Attributes().Device, Offloaded: l.kernel.Offloads()}, origin{h.since, true})
}

// shakeDevice does the same for the request of a device's client.
func (l *Listener) shakeDevice(h *halfOpen, d *deviceListener, r transport.Request) *rdmanet.Conn {
	ctx := l.handshake(h, l.ctx)
	defer ctx.End()
	c, err := l.serve(ctx, h, r)
	l.sharing.made(h.place, c)
	l.half.decide(h)
	if err != nil {
		l.countFailed(err)
		return nil
	}
	l.counters.iwarp.Add(1)
	info := d.info(c.Attributes().Device)
	info.Ignored = l.config.toDevice(c)
	return remember(c, info, origin{h.since, true})
}

// handshake returns the context of a set-up. It has ended if h had to give way.
func (l *Listener) handshake(h *halfOpen, parent context.Context) *brief.Context {
	ctx := &h.shake
	*ctx = brief.Context{}
	ctx.Begin(parent, time.Now().Add(l.config.HandshakeTimeout))
	if !l.half.shaking(h, ctx) {
		ctx.End()
	}
	return ctx
}

func (l *Listener) countFailed(err error) {
	if !errors.Is(err, redirect.ErrSent) && !errors.Is(err, errShare) {
		l.counters.failed.Add(1)
		countFailed(statpage.Accepted, err)
		l.logHandshake(err)
	}
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
	first, err := sniff.Look(h.c, false, l.errors())
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
