package iwarp

import (
	"context"
	"net"
	"sync"
	"syscall"
	"time"
)

// limit returns ctx with what Timeout, Deadline and Cancel add to it.
func (d *Dialer) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline := d.Deadline
	if d.Timeout != 0 { // a negative one has passed already, as for package net
		if t := time.Now().Add(d.Timeout); deadline.IsZero() || t.Before(deadline) {
			deadline = t
		}
	}
	var cancel context.CancelFunc
	if deadline.IsZero() {
		ctx, cancel = context.WithCancel(ctx)
	} else {
		ctx, cancel = context.WithDeadline(ctx, deadline)
	}
	if d.Cancel != nil {
		go func() {
			select {
			case <-d.Cancel:
				cancel()
			case <-ctx.Done():
			}
		}()
	}
	return ctx, cancel
}

// answerSlack is what a peer of which nothing is known has for its answer beside the round trips.
// It covers a peer that is busy; a lost segment is covered by the round trips.
var answerSlack = 100 * time.Millisecond

const answerTrips = 4

// handshake returns ctx limited to the time that an iWARP connection set-up may take.
func (a *dialing) handshake(ctx context.Context) (context.Context, context.CancelFunc) {
	limit := a.handshakeLimit()
	if a.policy != OffloadRequire && a.HandshakeTimeout <= 0 {
		limit = defaultFallbackTimeout
	}
	if deadline, ok := ctx.Deadline(); ok {
		limit = min(limit, a.share(time.Until(deadline)))
	}
	return context.WithTimeout(ctx, limit)
}

// answer is handshake for a peer that has shown a round trip, and may have spoken iWARP before.
func (a *dialing) answer(ctx context.Context, trip time.Duration, spoke bool) (context.Context, context.CancelFunc) {
	limit, quick := a.handshakeLimit(), answerSlack+answerTrips*trip
	if a.policy != OffloadRequire && a.HandshakeTimeout <= 0 && !spoke {
		limit = min(limit, quick)
	}
	if deadline, ok := ctx.Deadline(); ok {
		left := time.Until(deadline)
		share := a.share(left)
		if spoke && a.policy != OffloadRequire {
			share = max(share, left-quick) // what is left is enough for a plain connection
		}
		limit = min(limit, share)
	}
	return context.WithTimeout(ctx, limit)
}

// connecting returns ctx limited to the time that another address has to connect. Where plain TCP
// to the first one is there, that is no longer than a peer of which nothing is known has for an
// answer: the address may be a black hole.
func (a *dialing) connecting(ctx context.Context, trip time.Duration) (context.Context, context.CancelFunc) {
	if a.policy != OffloadRequire {
		return a.answer(ctx, trip, false)
	}
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, a.share(time.Until(deadline)))
}

func (a *dialing) handshakeLimit() time.Duration {
	if a.HandshakeTimeout > 0 {
		return a.HandshakeTimeout
	}
	return defaultDialHandshakeTimeout
}

// share is what one attempt may take of the time left, so that there is as much for each of those
// that may follow.
func (a *dialing) share(left time.Duration) time.Duration {
	after := a.ahead
	if a.policy != OffloadRequire {
		after++ // plain TCP
	}
	return left / time.Duration(after+1)
}

// timed is kernel with the time that the connection took, without what came before it: it is a
// round trip, or more.
func (a *dialing) timed(ctx context.Context, address string) (*net.TCPConn, time.Duration, error) {
	var mu sync.Mutex
	began := make(map[string]time.Time) // by address, as package net may try several at once
	d := *a.Dialer
	d.ControlContext = func(ctx context.Context, network, address string, c syscall.RawConn) error {
		err := a.control(ctx, network, address, c)
		mu.Lock()
		defer mu.Unlock()
		began[address] = time.Now()
		return err
	}
	start := time.Now()
	c, err := d.kernel(ctx, a.network, address)
	if err != nil {
		return nil, 0, err
	}
	mu.Lock()
	defer mu.Unlock()
	if t, ok := began[c.RemoteAddr().String()]; ok { // not for an unspecified address
		start = t
	}
	return c, time.Since(start), nil
}

// minPatience is how long a peer must have been silent for that to tell about the peer, unless the
// limit of the wait is less.
const minPatience = 200 * time.Millisecond

// hasty reports whether a wait that began then was cut too short, by the time left for the dial, to
// tell about the peer.
func (a *dialing) hasty(began time.Time) bool {
	enough := min(minPatience, answerSlack)
	if a.HandshakeTimeout > 0 {
		enough = min(minPatience, a.HandshakeTimeout)
	}
	return time.Since(began) < enough
}
