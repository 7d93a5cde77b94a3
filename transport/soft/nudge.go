package soft

import (
	"time"

	"github.com/rdmanet/iwarp/transport"
)

// nudges are the waits between the Writes of nothing that an initiator sends to a responder that it has heard nothing
// from. Linux's siw sends its MPA reply before it takes over the events of its socket. An FPDU that arrives in
// between lies there unseen until another one follows, which may be never where the peer's turn is next.
//
// A responder that speaks has taken over, so what is sent from then on is seen. But what was sent before may lie there still, so one that falls
// silent is sent one more.
var nudges = [...]time.Duration{5 * time.Millisecond, 20 * time.Millisecond, 100 * time.Millisecond, 500 * time.Millisecond}

// startNudges begins with the first wait.
func (q *QueuePair) startNudges() { q.nudgeAfter(nudges[:], q.arrived.Load()) }

func (q *QueuePair) nudgeAfter(waits []time.Duration, before uint32) {
	time.AfterFunc(waits[0], func() {
		now, unread := q.arrived.Load(), q.sock.extra()
		if !q.nudge(now == before, unread) {
			return
		}
		if now == before && (!unread || len(waits) > 1) {
			waits = waits[1:]
		}
		if len(waits) > 0 {
			q.nudgeAfter(waits, now)
		}
	})
}

// nudge sends a Write of nothing, which no responder takes notice of, and reports whether it may take another one. Silent tells that the
// responder has said nothing since the last time, unread that it has, but nobody has looked yet.
//
// What comes to a responder that has said all and is gone, as an rsocket may be, is answered by its kernel with a reset, which overtakes
// the rest. So nothing is sent to one that has spoken, unless something is to be seen there.
func (q *QueuePair) nudge(silent, unread bool) bool {
	if q.State() != transport.StateRTS {
		return false
	}
	t := &q.tx
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil || t.closing || (t.heard || unread) && !t.unseen {
		return false
	}
	if t.heard && !silent || unread {
		return true
	}
	if t.out.empty() && len(t.control) == 0 && !t.midSend {
		t.out.begin(smallBuf)
		q.composeEmptyWrite()
		t.control = append(t.control, (*t.out.buf)[:t.out.used]...)
		t.out.reset()
		unseen := t.unseen
		q.trySend(false)
		t.unseen = unseen // nobody misses a Write of nothing
	}
	return true
}

// PeerMaySend reports whether a responder will be free to send without an FPDU of the user's: the RTR frame, or else the
// first nudge, opens its gate.
func (q *QueuePair) PeerMaySend() bool { return true }
