package iwarp

import (
	"errors"
	"io"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/rdmanet/iwarp/internal/redirect"
	"github.com/rdmanet/iwarp/transport"
)

const (
	peerTTL  = time.Minute // of what is proved; of what is not, at most
	spokeTTL = time.Hour   // of the knowledge that a peer speaks iWARP
	maxPeers = 1024

	// maxTrouble is for how long failures to answer count for nothing where the peer spoke iWARP
	// before. Then it may be another one.
	maxTrouble = 10 * time.Second
	// costTimes is how much longer a wait in vain is remembered than it took, so that waits are a
	// small part of the time.
	costTimes = 10
)

// passingTTL is how long a failure is remembered at first that may be a trouble of the moment.
var passingTTL = time.Second

// peer names a peer as one transport sees it.
type peer struct {
	transport string
	addr      netip.AddrPort
}

// A peerCache holds what was learned lately about peers: that they spoke iWARP or did not, or at
// which port their device listens. It is bounded in time and number.
//
// Only what proves that a peer does not speak iWARP counts against one that has done so before. A
// reset, the end of the connection or silence may be due to a moment's trouble, so it is remembered
// for a short time, and longer each time that it is confirmed.
type peerCache struct {
	mu sync.Mutex
	m  map[peer]lesson
}

type lesson struct {
	why   OffloadError // the peer did not speak iWARP, until
	until time.Time    // then
	to    redirect.To  // unless it has a port: its device listens there, until then

	learned time.Time     // when why was
	kept    time.Duration // until is that much later
	other   instead

	spoke   time.Time // the latest iWARP connection, zero if none is known
	trouble time.Time // the first failure since
}

// instead is an address of the same name, dialed by that, that did speak iWARP.
type instead struct {
	name string
	addr netip.AddrPort
}

// peers is shared by all Dialers of the process.
var peers peerCache

// lookup returns why p did not speak iWARP, if that is known.
func (pc *peerCache) lookup(p peer, now time.Time) (OffloadError, bool) {
	l := pc.recall(p, now)
	return l.why, l.why.Reason != ReasonNone
}

// redirect returns where the device of p listens, port 0 if that is not known.
func (pc *peerCache) redirect(p peer, now time.Time) redirect.To {
	return pc.recall(p, now).to
}

// instead returns the address of the name that spoke iWARP where p did not, or an invalid one.
func (pc *peerCache) instead(p peer, name string, now time.Time) netip.AddrPort {
	if l := pc.recall(p, now); l.other.name == name {
		return l.other.addr
	}
	return netip.AddrPort{}
}

// speaks reports whether p is known to speak iWARP.
func (pc *peerCache) speaks(p peer, now time.Time) bool {
	return !pc.recall(p, now).spoke.IsZero()
}

// recall returns of the lesson what still holds.
func (pc *peerCache) recall(p peer, now time.Time) lesson {
	pc.mu.Lock()
	defer pc.mu.Unlock()
	l, ok := pc.m[p]
	if ok && l.stale(now) {
		delete(pc.m, p)
		return lesson{}
	}
	if !now.Before(l.until) {
		l.why, l.to, l.other = OffloadError{}, redirect.To{}, instead{}
	}
	if now.Sub(l.spoke) >= spokeTTL {
		l.spoke = time.Time{}
	}
	return l
}

// stale reports whether nothing in l is of use. What has just run out still is, should it be
// confirmed.
func (l *lesson) stale(now time.Time) bool {
	return !now.Before(l.until.Add(l.kept)) && now.Sub(l.spoke) >= spokeTTL
}

// learn keeps why in mind, which an attempt found that began then, if it may be a trait of the
// peer. With proof it is none of the moment.
func (pc *peerCache) learn(p peer, why OffloadError, proof bool, began, now time.Time) {
	if !proof && why.Reason != ReasonNotIWARP && why.Reason != ReasonHandshakeTimeout {
		return
	}
	pc.mu.Lock()
	defer pc.mu.Unlock()
	l := pc.m[p]
	if proof {
		pc.keep(p, lesson{why: why, learned: now, until: now.Add(peerTTL)}, now)
		return
	}
	if !l.spoke.IsZero() && now.Sub(l.spoke) < spokeTTL {
		if l.spoke.After(began) {
			return
		}
		if l.trouble.IsZero() {
			l.trouble = began
		}
		if now.Sub(l.trouble) < maxTrouble {
			pc.keep(p, l, now)
			return
		}
	}
	kept := max(passingTTL, costTimes*now.Sub(began))
	if l.why.Reason != ReasonNone {
		if !began.After(l.learned) {
			return // others have learned it meanwhile
		}
		if now.Before(l.until.Add(l.kept)) {
			kept = max(kept, 2*l.kept)
		}
	}
	kept = min(kept, peerTTL)
	pc.keep(p, lesson{why: why, learned: now, kept: kept, until: now.Add(kept)}, now)
}

// spoke keeps in mind that p speaks iWARP.
func (pc *peerCache) spoke(p peer, now time.Time) {
	pc.mu.Lock()
	defer pc.mu.Unlock()
	pc.keep(p, lesson{spoke: now}, now)
}

// learnRedirect keeps in mind where the device of p listens.
func (pc *peerCache) learnRedirect(p peer, to redirect.To, now time.Time) {
	pc.mu.Lock()
	defer pc.mu.Unlock()
	pc.keep(p, lesson{to: to, until: now.Add(peerTTL), spoke: now}, now)
}

// learnInstead keeps in mind for as long as p is known not to speak iWARP that another address of
// the name does.
func (pc *peerCache) learnInstead(p peer, name string, addr netip.AddrPort) {
	pc.mu.Lock()
	defer pc.mu.Unlock()
	if l, ok := pc.m[p]; ok && l.why.Reason != ReasonNone {
		l.other = instead{name, addr}
		pc.m[p] = l
	}
}

// forgetRedirect forgets where the device of p listens.
func (pc *peerCache) forgetRedirect(p peer) {
	pc.mu.Lock()
	defer pc.mu.Unlock()
	if l, ok := pc.m[p]; ok {
		l.to = redirect.To{}
		pc.m[p] = l
	}
}

func (pc *peerCache) keep(p peer, l lesson, now time.Time) {
	if pc.m == nil {
		pc.m = make(map[peer]lesson)
	}
	if _, ok := pc.m[p]; !ok && len(pc.m) >= maxPeers {
		pc.makeRoom(now)
	}
	pc.m[p] = l
}

// makeRoom drops all that is out of date, or else any one.
func (pc *peerCache) makeRoom(now time.Time) {
	for p, l := range pc.m {
		if l.stale(now) {
			delete(pc.m, p)
		}
	}
	for p := range pc.m {
		if len(pc.m) < maxPeers {
			return
		}
		delete(pc.m, p)
	}
}

// proves reports whether a failed set-up through software shows that the peer does not speak iWARP:
// it has sent something else.
func proves(err error) bool {
	return errors.Is(err, transport.ErrNotIWARP) && !hungUp(err)
}

// hungUp reports whether a set-up failed as the connection ended.
func hungUp(err error) bool {
	var errno syscall.Errno
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &errno)
}
