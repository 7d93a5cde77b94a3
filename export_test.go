package iwarp

import (
	"net"
	"time"

	"github.com/rdmanet/iwarp/internal/netaddr"
)

// MaxHalfOpen and MaxSilent are the bounds of a Listener.
const (
	MaxHalfOpen = maxHalfOpen
	MaxSilent   = maxHalfOpen / silentShare
)

// PathCount returns how many connections Describe remembers.
func PathCount() int {
	notes.sort()
	n := len(streams.all())
	paths.Range(func(any, any) bool { n++; return true })
	return n
}

// BePatient has dials wait so long for the first answer of a peer, and remember what may pass so
// long, and listeners so long for the first bytes of a client, that no test depends on how busy the
// machine is.
func BePatient() {
	longSilence = defaultDialHandshakeTimeout
	answerSlack, turnSlack, turnLimit = defaultFallbackTimeout, defaultFallbackTimeout, defaultFallbackTimeout
	passingTTL = peerTTL
}

// SetTurnSlack sets for how long a dial waits for another one that asks the same peer, and returns
// what puts it back.
func SetTurnSlack(d time.Duration) (undo func()) {
	slack, limit := turnSlack, turnLimit
	turnSlack, turnLimit = d, d
	return func() { turnSlack, turnLimit = slack, limit }
}

// SetAnswerSlack sets what a peer about which nothing is known has for its answer, and returns what
// puts it back.
func SetAnswerSlack(d time.Duration) (undo func()) {
	old := answerSlack
	answerSlack = d
	return func() { answerSlack = old }
}

// SetPauses sets how long dials pause before they ask a peer again that has hung up, and returns
// what puts it back.
func SetPauses(d time.Duration) (undo func()) {
	old := pauses
	for i := range pauses {
		pauses[i] = d
	}
	return func() { pauses = old }
}

// SetPassingTTL sets for how long what may pass is remembered at first, and returns what puts it
// back.
func SetPassingTTL(d time.Duration) (undo func()) {
	old := passingTTL
	passingTTL = d
	return func() { passingTTL = old }
}

// ForgetPeers empties the cache of what is known of peers.
func ForgetPeers() {
	peers.mu.Lock()
	defer peers.mu.Unlock()
	for p := range peers.m {
		peers.drop(p) // which texts notice
	}
}

// ForgetPeer drops what is known of the peer at addr.
func ForgetPeer(addr net.Addr) {
	at := netaddr.Unmap(netaddr.Of(addr))
	peers.mu.Lock()
	defer peers.mu.Unlock()
	for p := range peers.m {
		if p.addr == at {
			peers.drop(p)
		}
	}
}

// PolicyOf returns the policy of l.
func PolicyOf(l *Listener) Offload { return l.policy }

// HaveSilentRun has l learn that its clients are silent.
func HaveSilentRun(l *Listener) {
	for range silentRun {
		l.silence.kept()
	}
}

// SetLongSilence sets how long the clients of l, which has had none, may be silent by default.
func SetLongSilence(l *Listener, d time.Duration) { l.silence.long = d }

// PatienceOf returns how long c might be silent as a client of l.
func PatienceOf(l *Listener, c *net.TCPConn) time.Duration { return l.silence.patience(c) }

// Accepts reports whether a call of Accept is under way.
func Accepts(l *Listener) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.calls > 0
}
