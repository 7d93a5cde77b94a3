package soft

import (
	"time"

	"github.com/rdmanet/iwarp/transport"
)

// nudges are the waits between the Writes of nothing that an initiator sends to a responder that it has heard nothing
// from. Linux's siw sends its MPA reply before it takes over the events of its socket. An FPDU that arrives in
// between lies there unseen until another one follows, which may be never where the peer's turn is next.
var nudges = [...]time.Duration{5 * time.Millisecond, 20 * time.Millisecond, 100 * time.Millisecond, 500 * time.Millisecond}

// startNudges begins with the first wait.
func (q *QueuePair) startNudges() { q.nudgeAfter(nudges[:]) }

func (q *QueuePair) nudgeAfter(waits []time.Duration) {
	time.AfterFunc(waits[0], func() {
		if q.nudge() && len(waits) > 1 {
			q.nudgeAfter(waits[1:])
		}
	})
}

// nudge sends a Write of nothing, which no responder takes notice of, and reports whether it may take another one.
func (q *QueuePair) nudge() bool {
	if q.State() != transport.StateRTS {
		return false
	}
	t := &q.tx
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.heard || t.err != nil || t.closing {
		return false
	}
	if t.out.empty() && len(t.control) == 0 && !t.midSend {
		t.out.begin(smallBuf)
		q.composeEmptyWrite()
		t.control = append(t.control, (*t.out.buf)[:t.out.used]...)
		t.out.reset()
		q.trySend(false)
	}
	return true
}

// PeerMaySend reports whether a responder will be free to send without an FPDU of the user's: the RTR frame, or else the
// first nudge, opens its gate.
func (q *QueuePair) PeerMaySend() bool { return true }
