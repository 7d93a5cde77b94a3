package soft

import (
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/internal/pool"
)

// nudges are the waits between the empty Writes that an initiator sends to a responder that it has
// heard nothing from. Linux's siw sends its MPA reply before it takes over the events of its
// socket. An FPDU that arrives in between lies there unseen until another one follows, which may be
// never if it is the peer's turn to speak.
//
// A responder that speaks has taken over, so what is sent from then on is seen. But what was sent
// before may still lie there, so one that falls silent is sent one more.
var nudges = [...]time.Duration{5 * time.Millisecond, 20 * time.Millisecond, 100 * time.Millisecond, 500 * time.Millisecond}

// A nudger sends the nudges of a queue pair. Its timer runs only while one may be due soon, and
// does not keep the queue pair alive.
type nudger struct {
	// Guarded by tx.mu.
	step uint8  // of the waits
	sent uint8  // nudges
	seen uint32 // FPDUs that had arrived when the wait began

	// suspended is true while a nudge has to wait until somebody reads, and no timer runs.
	suspended atomic.Bool
}

// startNudges begins with the first wait.
func (q *queuePair) startNudges() {
	q.tx.mu.Lock()
	defer q.tx.mu.Unlock()
	q.awaitNudge()
}

// awaitNudge begins the next wait. The caller holds tx.mu.
func (q *queuePair) awaitNudge() {
	n := &q.tx.nudger
	n.seen = q.arrived.Load()
	wait := nudges[n.step]
	n.step = min(n.step+1, uint8(len(nudges)-1))
	if wait == nudges[0] {
		firstNudges.add(q)
		return
	}
	w := weak.Make(q)
	time.AfterFunc(wait, func() {
		if q := w.Value(); q != nil {
			q.tx.mu.Lock()
			defer q.tx.mu.Unlock()
			q.nudge()
		}
	})
}

// firstNudges are the first waits of all queue pairs, most of which are over before they end, and
// heldRTRs those for something to send the RTR frame with. They have one timer each, and keep a
// queue pair alive for that short time.
var (
	firstNudges = nudgeQueue{wait: nudges[0]}
	heldRTRs    = nudgeQueue{wait: 20 * time.Millisecond, held: true}
)

type nudgeQueue struct {
	wait time.Duration
	held bool // an RTR frame is sent, and not a nudge

	mu    sync.Mutex
	list  []awaitedNudge // in the order in which they are due
	first [64]awaitedNudge
	timer *time.Timer // runs while there are some
}

type awaitedNudge struct {
	q   *queuePair
	due time.Time
}

func (n *nudgeQueue) add(q *queuePair) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.list = append(n.list, awaitedNudge{q, time.Now().Add(n.wait)}); len(n.list) > 1 {
		return
	}
	if n.timer == nil {
		n.timer = time.AfterFunc(n.wait, n.expire)
		return
	}
	n.timer.Reset(n.wait)
}

// expire nudges those that are due, a few at a time.
func (n *nudgeQueue) expire() {
	var due [16]*queuePair
	for {
		k := n.take(due[:])
		for _, q := range due[:k] {
			q.tx.mu.Lock()
			if n.held {
				q.sendHeldLocked()
			} else {
				q.nudge()
			}
			q.tx.mu.Unlock()
		}
		clear(due[:])
		if k < len(due) {
			return
		}
	}
}

// take takes what is due, and sets the timer for the next unless there is more.
func (n *nudgeQueue) take(due []*queuePair) (k int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	for k < len(due) && k < len(n.list) && !now.Before(n.list[k].due) {
		due[k] = n.list[k].q
		k++
	}
	clear(n.list[:k])
	if n.list = n.list[k:]; len(n.list) == 0 {
		clear(n.first[:]) // which the list may have outgrown
		n.list = n.first[:0]
	} else if k < len(due) {
		n.timer.Reset(n.list[0].due.Sub(now))
	}
	return k
}

// nudge sends a nudge, which every responder ignores, or makes sure that one is sent later. The
// caller holds tx.mu.
//
// What reaches a responder that has said everything and is gone, as an rsocket may be, is answered
// by its kernel with a reset, which overtakes the rest. So nothing is sent to one that has spoken,
// unless something may lie there unseen, nor before everything that it has said is read.
func (q *queuePair) nudge() {
	t, n := &q.tx, &q.tx.nudger
	if q.State() != transport.StateRTS || t.err != nil || t.phase >= phaseClosing || t.heard && !t.unseen {
		return
	}
	if q.unread() {
		if !t.unseen {
			return
		}
		n.suspended.Store(true)
		// Whoever read it just before could not know that.
		if q.unread() || !n.suspended.CompareAndSwap(true, false) {
			return
		}
	}
	if t.heard && q.arrived.Load() != n.seen {
		q.awaitNudge() // it goes on speaking
		return
	}
	if t.out.empty() && t.control == nil && t.floor != floorSend {
		q.sendNothing()
	}
	if n.sent++; int(n.sent) < len(nudges) && !t.heard {
		q.awaitNudge()
	}
}

// unread reports whether something has come that nobody has looked at.
func (q *queuePair) unread() bool { return q.early.Load() || q.sock.extra() }

// resumeNudges sends a nudge that was suspended until something was read.
func (q *queuePair) resumeNudges() {
	if n := &q.tx.nudger; n.suspended.Load() && n.suspended.CompareAndSwap(true, false) {
		q.startNudges()
	}
}

// sendNothing sends an empty Write, which does not count as something that the peer may have
// missed. The caller holds tx.mu.
func (q *queuePair) sendNothing() {
	t := &q.tx
	t.out.begin(pool.Small)
	q.composeEmptyWrite()
	t.precede()
	unseen := t.unseen
	q.trySend(false)
	t.unseen = unseen
}

// PeerMaySend reports whether a responder will be free to send without an FPDU of the user's: the
// RTR frame, or else the first nudge, opens its gate. It sends the frame, unless the peer takes
// FPDUs of more than one TCP segment, and so is of this module: then the frame may go with data,
// and no nudges are needed.
func (q *queuePair) PeerMaySend() bool {
	q.tx.mu.Lock()
	defer q.tx.mu.Unlock()
	if q.tx.prompt = q.tx.large; !q.tx.prompt {
		q.sendHeldLocked()
	}
	return true
}
