package iwarp

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/rdmanet/iwarp/internal/brief"
	"github.com/rdmanet/iwarp/internal/tcpinfo"
)

// turnSlack is how long a dial waits for another one that asks the same peer, in addition to
// turnTrips round trips; turnLimit is the most. Its own connection is there meanwhile, so it is
// less than what a Listener grants a silent client in any case.
var turnSlack, turnLimit = 10 * time.Millisecond, 80 * time.Millisecond

// turnTrips is one for a request and its answer, and one to spare.
const turnTrips = 2

// A turn is a dial's turn to ask a peer about which nothing may be known: such a peer is asked by
// one dial at a time.
type turn struct {
	end   func() // must be called once the answer was learned; nil if the peer must not be asked
	why   OffloadError
	spoke bool // the peer has spoken iWARP before
	other bool // another address of the name may speak it
}

// turn decides whether p should be asked. Where another dial is asking it, turn waits up to
// patience to learn the answer, and for no more than half of the time that there is for the dial.
func (a *dialing) turn(ctx context.Context, p peer, patience func() time.Duration) turn {
	if a.policy == OffloadRequire {
		return turn{end: func() {}, spoke: peers.speaks(p, time.Now())}
	}
	var late *time.Timer
	for {
		known, end, other := peers.ask(p, time.Now())
		switch {
		case known.isMute():
			return turn{why: known.why, other: known.other.addr.IsValid()}
		case !known.spoke.IsZero():
			return turn{end: func() {}, spoke: true}
		case end != nil:
			return turn{end: end}
		}
		if late == nil {
			wait := patience()
			if deadline, ok := ctx.Deadline(); ok {
				wait = min(wait, time.Until(deadline)/2)
			}
			late = time.NewTimer(wait)
			defer late.Stop()
		}
		select {
		case <-other:
		case <-late.C:
			return turn{why: OffloadError{Reason: ReasonAsking}}
		case <-ctx.Done():
			return turn{why: OffloadError{Reason: ReasonAsking}}
		}
	}
}

// mute returns why the peer at a numeric address does not speak iWARP in software, if that is
// known. It is what turn would find out once the connection was made.
func mute(software kernelTransport, address string, now time.Time) (OffloadError, bool) {
	return peers.lookupText(text{software.Name(), address}, now)
}

// started is a time from which now counts.
var started = time.Now()

// now is time.Now for half the price, by the clock that nobody sets.
func now() time.Time { return started.Add(time.Since(started)) }

// answerSlack is the time that a peer about which nothing is known has for its answer, from when
// its kernel has confirmed the request. It covers a peer that is busy.
var answerSlack = 100 * time.Millisecond

const (
	// answerTrips allows for an answer that was lost on the way to come after all. The longer a round
	// trip, the likelier a loss.
	answerTrips = 10
	// leastRTO is the least time that the kernel waits for a confirmation, besides a round trip,
	// before it sends something again (TCP_RTO_MIN of Linux).
	leastRTO = 200 * time.Millisecond
	// lostAnswers is how many losses of an answer in a row are covered.
	lostAnswers = 2
)

// answerTime is how long a peer about which nothing is known may be silent.
func answerTime(trip time.Duration) time.Duration {
	return answerSlack + min(answerTrips*trip, lostAnswers*(leastRTO+trip))
}

// answer returns ctx limited to the wait for the answer of the peer of c, which has shown a round
// trip, and may have spoken iWARP before.
func (a *dialing) answer(ctx context.Context, c *net.TCPConn, trip time.Duration, spoke bool) *answerWait {
	limit, quick := a.handshakeLimit(), a.policy != OffloadRequire && a.HandshakeTimeout <= 0 && !spoke
	w := &answerWait{trip: trip, after: answerTime(trip), of: tcpinfo.Of}
	if quick {
		limit = min(limit, max(defaultFallbackTimeout, trip+w.after))
	}
	if deadline, ok := ctx.Deadline(); ok {
		left := time.Until(deadline)
		share := a.share(left)
		if a.policy != OffloadRequire {
			if spoke {
				share = max(share, left-trip-w.after)
			}
			// A shorter wait is of no use, and a plain connection takes as long.
			share = min(max(share, tripTime(trip)), left-tripTime(max(trip, a.first.measured)))
		}
		limit = min(limit, share)
	}
	a.waited = waitLimit{limit: limit, least: max(leastPatience, leastTrips*trip), full: trip + w.after}
	w.Begin(ctx, time.Now().Add(limit))
	if quick {
		w.start(c)
	}
	return w
}

// An answerWait ends the wait for an answer once a peer has been silent for too long: a request
// that is still on its way, or was lost there, says nothing about the peer.
type answerWait struct {
	brief.Context
	trip, after time.Duration
	of          func(*net.TCPConn) (tcpinfo.Info, bool)

	mu    sync.Mutex
	c     *net.TCPConn
	began time.Time
	timer *time.Timer // nil if only the limit counts, or once the wait is over
}

func (w *answerWait) start(c *net.TCPConn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.c, w.began = c, time.Now()
	w.timer = time.AfterFunc(w.trip+w.after, w.look)
}

// use says that the answer will come by another connection.
func (w *answerWait) use(c *net.TCPConn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.c, w.began = c, time.Now()
}

func (w *answerWait) stop() {
	w.End()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Stop()
		w.timer = nil
	}
}

// look ends the wait if it is time.
func (w *answerWait) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer == nil {
		return
	}
	if left := w.left(); left > clockStep {
		w.timer.Reset(left)
		return
	}
	w.End()
}

// clockStep is the resolution of tcpinfo.Info.SinceAck, or a little more.
const clockStep = 5 * time.Millisecond

// lookAgain is the least time after which a connection is looked at again.
const lookAgain = 10 * time.Millisecond

// left is how long the peer may still be silent, or how long to wait before looking again.
func (w *answerWait) left() time.Duration {
	info, ok := w.of(w.c)
	switch {
	case !ok:
		return w.trip + w.after - time.Since(w.began)
	case !info.Sent, info.Unacked:
		return max(w.trip, lookAgain)
	}
	return w.after - min(info.SinceAck, time.Since(w.began))
}
