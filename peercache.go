package iwarp

import (
	"net/netip"
	"sync"
	"time"
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

// A peerCache holds what was learned lately about peers that did not speak iWARP. It is bounded in time and number.
type peerCache struct {
	mu sync.Mutex
	m  map[peer]lesson
}

type lesson struct {
	OffloadError
	until time.Time
}

// peers is shared by all Dialers of the process.
var peers peerCache

func (pc *peerCache) lookup(p peer, now time.Time) (OffloadError, bool) {
	pc.mu.Lock()
	defer pc.mu.Unlock()
	l, ok := pc.m[p]
	if ok && !now.Before(l.until) {
		delete(pc.m, p)
		ok = false
	}
	return l.OffloadError, ok
}

// learn keeps why in mind if it is a trait of the peer and not of the moment.
func (pc *peerCache) learn(p peer, why OffloadError, now time.Time) {
	if why.Reason != ReasonNotIWARP && why.Reason != ReasonHandshakeTimeout {
		return
	}
	pc.mu.Lock()
	defer pc.mu.Unlock()
	if pc.m == nil {
		pc.m = make(map[peer]lesson)
	}
	if _, ok := pc.m[p]; !ok && len(pc.m) >= maxPeers {
		pc.makeRoom(now)
	}
	pc.m[p] = lesson{why, now.Add(peerTTL)}
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
