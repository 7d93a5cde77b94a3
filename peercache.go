package iwarp

import (
	"errors"
	"net/netip"
	"sync"
	"time"

	"github.com/rdmanet/iwarp/rdmanet"
)

const (
	peerTTL  = time.Minute
	maxPeers = 1024
)

// peer names a peer as one transport sees it.
type peer struct {
	transport string
	addr      netip.AddrPort
}

// A peerCache holds what was learned lately about peers: that they did not speak iWARP, or at which port their device
// listens. It is bounded in time and number.
type peerCache struct {
	mu sync.Mutex
	m  map[peer]lesson
}

type lesson struct {
	why   OffloadError          // the peer did not speak iWARP, unless
	to    rdmanet.RedirectError // has a port: its device listens there
	until time.Time
}

// peers is shared by all Dialers of the process.
var peers peerCache

// lookup returns why p did not speak iWARP, if that is known.
func (pc *peerCache) lookup(p peer, now time.Time) (OffloadError, bool) {
	l, ok := pc.recall(p, now)
	return l.why, ok && l.to.Port == 0
}

// redirect returns where the device of p listens, port 0 if that is not known.
func (pc *peerCache) redirect(p peer, now time.Time) rdmanet.RedirectError {
	l, _ := pc.recall(p, now)
	return l.to
}

func (pc *peerCache) recall(p peer, now time.Time) (lesson, bool) {
	pc.mu.Lock()
	defer pc.mu.Unlock()
	l, ok := pc.m[p]
	if ok && !now.Before(l.until) {
		delete(pc.m, p)
		return lesson{}, false
	}
	return l, ok
}

// learn keeps why in mind if it is a trait of the peer and not of the moment.
func (pc *peerCache) learn(p peer, why OffloadError, now time.Time) {
	if why.Reason != ReasonNotIWARP && why.Reason != ReasonHandshakeTimeout && !errors.Is(why.Err, errNoPeerDevice) {
		return
	}
	pc.keep(p, lesson{why: why}, now)
}

// learnRedirect keeps in mind where the device of p listens.
func (pc *peerCache) learnRedirect(p peer, to rdmanet.RedirectError, now time.Time) {
	pc.keep(p, lesson{to: to}, now)
}

func (pc *peerCache) keep(p peer, l lesson, now time.Time) {
	pc.mu.Lock()
	defer pc.mu.Unlock()
	if pc.m == nil {
		pc.m = make(map[peer]lesson)
	}
	if _, ok := pc.m[p]; !ok && len(pc.m) >= maxPeers {
		pc.makeRoom(now)
	}
	l.until = now.Add(peerTTL)
	pc.m[p] = l
}

// makeRoom drops all that is out of date, or else any one.
func (pc *peerCache) makeRoom(now time.Time) {
	for p, l := range pc.m {
		if !now.Before(l.until) {
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

func (pc *peerCache) forget(p peer) {
	pc.mu.Lock()
	defer pc.mu.Unlock()
	delete(pc.m, p)
}
