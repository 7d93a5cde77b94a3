package soft

import (
	"runtime"
	"time"
)

const (
	turnFPDUs = 512 // that are handled without waiting for the peer before others get their turn
	turnIdle  = 64  // of them those that bring nothing, before the next ones have to wait
	turnPause = 2 * time.Millisecond
)

// A turn counts what a connection has handled since it last had to wait for the peer. One that
// sends small FPDUs faster than they are handled would otherwise keep a processor for itself: most
// of all FPDUs of nothing, of which it may send any number. These are handled so slowly that TCP
// stops the peer.
type turn struct {
	fpdus int
	idle  int // of them Writes and RDMA Reads of nothing
}

func (t *turn) over() bool { return t.fpdus >= turnFPDUs || t.wasIdle() }

// end returns t, and begins the next turn if it is over.
func (t *turn) end() turn {
	ended := *t
	if t.over() {
		*t = turn{}
	}
	return ended
}

// pause lets others run after t, until there is news or the deadline passes at the latest.
func (t *turn) pause(news <-chan struct{}, deadline time.Time) {
	if !t.wasIdle() {
		runtime.Gosched()
		return
	}
	if end := time.Now().Add(turnPause); deadline.IsZero() || end.Before(deadline) {
		deadline = end
	}
	await(nil, news, deadline)
}

func (t *turn) wasIdle() bool { return t.idle >= turnIdle }

// giveWay lets others run after t, unless c holds or its call is to end.
func (q *queuePair) giveWay(t *turn, c *condition, seen uint32, deadline time.Time) {
	var wake chan struct{}
	if t.wasIdle() {
		wake = q.join()
		defer q.followers.Add(-1)
		// News from before wake was made is found here, later news closes it.
		if ok, err := c.holds(); ok || err != nil || c.interrupted(seen) {
			return
		}
	}
	t.pause(wake, deadline)
}
