package iwarp

import (
	"context"
	"errors"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/rdmanet/iwarp/internal/brief"
	"github.com/rdmanet/iwarp/internal/neterr"
	"github.com/rdmanet/iwarp/internal/tcpinfo"
	"github.com/rdmanet/iwarp/transport"
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
	switch {
	case !deadline.IsZero():
		ctx, cancel = context.WithDeadline(ctx, deadline)
	case d.Cancel != nil:
		ctx, cancel = context.WithCancel(ctx)
	default:
		return ctx, func() {} // a context that can end makes the dial slower
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

// farConnect is what a plain connection may take of which nothing is known.
const farConnect = time.Second

// handshake returns ctx limited to the time that an iWARP connection set-up may take.
func (a *dialing) handshake(ctx context.Context) (context.Context, context.CancelFunc) {
	limit := a.handshakeLimit()
	if a.policy != OffloadRequire && a.HandshakeTimeout <= 0 {
		limit = defaultFallbackTimeout
	}
	if deadline, ok := ctx.Deadline(); ok {
		left := time.Until(deadline)
		share := a.share(left)
		if a.policy != OffloadRequire {
			share = min(share, max(left/4, left-farConnect))
		}
		limit = min(limit, share)
	}
	a.waited = waitLimit{limit: limit, least: devicePatience, full: defaultFallbackTimeout}
	c := brief.New(ctx, time.Now().Add(limit))
	return c, c.End
}

// connecting returns ctx limited to the time that another address has to connect. Where there is
// plain TCP to the first one, that is no longer than a peer about which nothing is known has for an
// answer: the address may be a black hole.
func (a *dialing) connecting(ctx context.Context, trip time.Duration) (context.Context, context.CancelFunc) {
	var limit time.Duration
	if a.policy != OffloadRequire {
		limit = trip + answerTime(trip)
		if a.HandshakeTimeout > 0 {
			limit = a.HandshakeTimeout
		}
	}
	if deadline, ok := ctx.Deadline(); ok {
		share := a.share(time.Until(deadline))
		if limit == 0 || share < limit {
			limit = share
		}
	}
	if limit == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, limit)
}

// errNoTime says why a peer was not asked.
var errNoTime = errors.New("too little time left to ask")

// tripTime is what one round trip may take that is known to take trip, with something to spare.
func tripTime(trip time.Duration) time.Duration { return trip + trip/4 + 10*time.Millisecond }

// hasTime reports whether there is time for so many round trips to a peer, and for another one to
// connect by plain TCP if nothing comes of them. Otherwise dials might fail that package
// net makes.
func (k *kernelDial) hasTime(ctx context.Context, trips int) bool {
	deadline, ok := ctx.Deadline()
	if !ok || k.policy == OffloadRequire {
		return true
	}
	return time.Until(deadline) >= time.Duration(trips)*tripTime(k.trip())+tripTime(max(k.trip(), k.first.measured))
}

func (a *dialing) handshakeLimit() time.Duration {
	if a.HandshakeTimeout > 0 {
		return a.HandshakeTimeout
	}
	return defaultDialHandshakeTimeout
}

// share is what one attempt may take of the time left, so that as much remains for each of those
// that may follow.
func (a *dialing) share(left time.Duration) time.Duration {
	after := a.ahead
	if a.policy != OffloadRequire {
		after++ // plain TCP
	}
	return left / time.Duration(after+1)
}

// timed is kernel with the time that the connection took, which is a round trip or more. Where the
// kernel does not report it, what came before the connection is left out.
func (a *dialing) timed(ctx context.Context, address string) (*net.TCPConn, time.Duration, error) {
	start := time.Now()
	if tcpinfo.Told {
		c, err := a.kernel(ctx, address)
		return c, time.Since(start), err
	}
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
	c, err := a.kernelOf(ctx, &d, address)
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

// tripOf returns the round trip to the peer of c, which took that long to connect to.
func tripOf(c *net.TCPConn, took time.Duration) time.Duration {
	if info, ok := tcpinfo.Of(c); ok && info.RoundTrip > 0 {
		return min(info.RoundTrip, took)
	}
	return took
}

const (
	// leastPatience and leastTrips are the least time that a peer must have had for its answer for
	// silence to say something about it.
	leastPatience = 20 * time.Millisecond
	leastTrips    = 4
	// devicePatience is the same through a device, whose round trip is not known.
	devicePatience = 100 * time.Millisecond
)

// A waitLimit is the most time that a peer had for its answer, as set by the Dialer and by the time
// left for the dial, the least that says something, and what an unknown peer has otherwise.
type waitLimit struct{ limit, least, full time.Duration }

// remembered is for how long silence is remembered at most. What a Dialer in a hurry has found
// counts for the whole process, but if it were forgotten, each dial would cost the wait.
func (w waitLimit) remembered() time.Duration {
	switch {
	case w.limit >= w.full:
		return maxTTL
	case w.limit >= w.least:
		return peerTTL
	}
	return 0
}

// inTime returns err, or that the set-up took too long if its context has ended and that of the
// dial has not.
func inTime(dial, setUp context.Context, err error) error {
	if err != nil && neterr.Over(setUp) != nil && neterr.Over(dial) == nil {
		return transport.ErrHandshakeTimeout
	}
	return err
}
