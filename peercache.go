package iwarp

import (
	"errors"
	"io"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/rdmanet/iwarp/internal/netaddr"
	"github.com/rdmanet/iwarp/internal/redirect"
	"github.com/rdmanet/iwarp/transport"
)

const (
	peerTTL  = time.Minute // of what is proved, at first, and of where a device listens
	maxTTL   = time.Hour   // of what has been confirmed again and again
	spokeTTL = time.Hour   // of the knowledge that a peer speaks iWARP
	maxPeers = 4096

	// maxTrouble is for how long failures to answer count for nothing where the peer spoke iWARP
	// before. After that it may be another peer.
	maxTrouble = 10 * time.Second
	// costTimes is how many times longer than it took a wait that timed out is remembered, so that
	// waits are a small part of the time.
	costTimes = 10
)

// passingTTL is how long a failure that may be temporary is remembered at first.
var passingTTL = time.Second

// peer names a peer as one transport sees it.
type peer struct {
	transport string
	addr      netip.AddrPort
}

// A peerCache holds what was lately learned about peers: that they spoke iWARP or did not, or at
// which port their device listens. It is bounded in time and number.
//
// Only proof that a peer does not speak iWARP counts against one that has spoken it before, and
// bytes of something else only if the next attempt gets some, too: the application may have spoken
// first where the request was late. A reset, the end of the connection or silence may be due to
// temporary trouble, so it is remembered for a short time at first. What is confirmed is remembered
// twice as long each time. An iWARP request that comes from a host is news about all its ports.
type peerCache struct {
	mu    sync.Mutex
	m     map[peer]*lesson
	mutes map[netip.Addr]*mutes  // by host
	asked map[peer]chan struct{} // peers that a dial is asking, until it is closed
	texts map[text]*lesson       // of numeric addresses, as dials have them; some are gone
	swept time.Time              // when what was out of date was last dropped
}

// text is a peer whose address was not parsed.
type text struct{ transport, address string }

// mutes are the lessons that ports of a host do not speak iWARP.
type mutes struct {
	n     int
	fresh bool      // one of them was learned after the latest news
	news  time.Time // an iWARP request from the host
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
	foreign bool      // it has sent something else since
	news    time.Time // the latest iWARP request from its host that had why forgotten

	gone bool // it is no longer in the cache
}

// instead is an address that did speak iWARP, of the same name, by which it was dialed.
type instead struct {
	name  string
	addr  netip.AddrPort
	from  time.Time     // when it may be dialed again, as it has failed
	pause time.Duration // that ends then
}

// peers is shared by all Dialers of the process.
var peers peerCache

// lookup returns why p did not speak iWARP, if that is known.
func (pc *peerCache) lookup(p peer, now time.Time) (OffloadError, bool) {
	pc.mu.Lock()
	defer pc.mu.Unlock()
	if l := pc.m[p]; l != nil && now.Before(l.until) {
		return l.why, l.isMute()
	}
	l := pc.holds(p, now)
	return l.why, l.isMute()
}

// lookupText is lookup for an address that may be numeric. What is looked up again and again is
// parsed once.
func (pc *peerCache) lookupText(t text, now time.Time) (OffloadError, bool) {
	pc.mu.Lock()
	if l := pc.texts[t]; l != nil && !l.gone && now.Before(l.until) {
		defer pc.mu.Unlock()
		return l.why, l.isMute()
	}
	pc.mu.Unlock()
	addr, err := netip.ParseAddrPort(t.address)
	if err != nil {
		return OffloadError{}, false
	}
	p := peer{t.transport, netaddr.Unmap(addr)}
	why, ok := pc.lookup(p, now)
	if ok {
		pc.mu.Lock()
		defer pc.mu.Unlock()
		if pc.texts == nil || len(pc.texts) >= maxPeers {
			pc.texts = make(map[text]*lesson)
		}
		pc.texts[t] = pc.m[p]
	}
	return why, ok
}

// redirect returns where the device of p listens, port 0 if that is not known.
func (pc *peerCache) redirect(p peer, now time.Time) redirect.To {
	return pc.recall(p, now).to
}

// instead returns the address of the name that spoke iWARP where p did not, or an invalid one. One
// that has failed lately is left alone for a while.
func (pc *peerCache) instead(p peer, name string, now time.Time) netip.AddrPort {
	if l := pc.recall(p, now); l.other.name == name && !now.Before(l.other.from) {
		return l.other.addr
	}
	return netip.AddrPort{}
}

// speaks reports whether p is known to speak iWARP.
func (pc *peerCache) speaks(p peer, now time.Time) bool {
	return !pc.recall(p, now).spoke.IsZero()
}

// recall returns the part of the lesson that still holds.
func (pc *peerCache) recall(p peer, now time.Time) lesson {
	pc.mu.Lock()
	defer pc.mu.Unlock()
	return pc.holds(p, now)
}

// holds is recall for a caller that holds mu.
func (pc *peerCache) holds(p peer, now time.Time) lesson {
	known := pc.m[p]
	switch {
	case known == nil:
		return lesson{}
	case now.Before(known.until):
		return *known
	case known.stale(now):
		pc.drop(p)
		return lesson{}
	}
	l := *known
	l.why, l.to, l.other = OffloadError{}, redirect.To{}, instead{}
	if now.Sub(l.spoke) >= spokeTTL {
		l.spoke = time.Time{}
	}
	return l
}

// stale reports whether nothing in l is of use. What has just run out still is, in case it is
// confirmed.
func (l *lesson) stale(now time.Time) bool {
	return !now.Before(l.until.Add(l.kept)) && now.Sub(l.spoke) >= spokeTTL
}

// learn remembers why, which an attempt that began at began has found, if it may be a trait of the
// peer, for at most so long. With proof it is not temporary.
func (pc *peerCache) learn(p peer, why OffloadError, proof bool, most time.Duration, began, now time.Time) {
	if !proof && why.Reason != ReasonNotIWARP && why.Reason != ReasonHandshakeTimeout {
		return
	}
	pc.mu.Lock()
	defer pc.mu.Unlock()
	var l lesson
	if known := pc.m[p]; known != nil {
		l = *known
	}
	if l.spoke.After(began) {
		return
	}
	spoke := !l.spoke.IsZero() && now.Sub(l.spoke) < spokeTTL
	if spoke && why.Reason == ReasonNotIWARP && proof && !l.foreign {
		l.why, l.learned, l.kept, l.until = why, now, passingTTL, now.Add(passingTTL)
		l.to, l.other, l.foreign = redirect.To{}, instead{}, true
		pc.keep(p, l, now)
		return
	}
	if !proof && spoke {
		if l.trouble.IsZero() {
			l.trouble = began
		}
		if now.Sub(l.trouble) < maxTrouble {
			pc.keep(p, l, now)
			return
		}
	}
	kept := peerTTL
	if !proof {
		kept = max(passingTTL, costTimes*now.Sub(began))
	}
	if l.why.Reason != ReasonNone {
		if !began.After(l.learned) {
			return // others have learned it meanwhile
		}
		if now.Before(l.until.Add(l.kept)) {
			kept = max(kept, 2*l.kept)
		}
	}
	kept = min(kept, most)
	pc.keep(p, lesson{why: why, learned: now, kept: kept, until: now.Add(kept), news: l.news}, now)
}

// heard records an iWARP request from a host: which of its ports do not speak iWARP has to be found
// out anew. A port that still does not costs that once in peerTTL.
func (pc *peerCache) heard(host netip.Addr, now time.Time) {
	pc.mu.Lock()
	defer pc.mu.Unlock()
	h := pc.mutes[host]
	if h == nil || !h.fresh && now.Sub(h.news) < peerTTL {
		return
	}
	h.fresh, h.news = false, now
	for p, l := range pc.m {
		if p.addr.Addr() == host && l.isMute() && now.Sub(l.news) >= peerTTL {
			l.until, l.news = now, now
		}
	}
}

// ask returns what is known of p. If that is nothing, the caller is to ask p, and to call end once
// the answer is learned, unless another dial is asking it: then other is closed once that is over.
func (pc *peerCache) ask(p peer, now time.Time) (known lesson, end func(), other <-chan struct{}) {
	pc.mu.Lock()
	defer pc.mu.Unlock()
	known = pc.holds(p, now)
	if known.isMute() || !known.spoke.IsZero() {
		return known, nil, nil
	}
	if c, ok := pc.asked[p]; ok {
		return known, nil, c
	}
	if pc.asked == nil {
		pc.asked = make(map[peer]chan struct{})
	}
	c := make(chan struct{})
	pc.asked[p] = c
	return known, func() {
		pc.mu.Lock()
		defer pc.mu.Unlock()
		if pc.asked[p] == c {
			pc.answered(p)
		}
	}, nil
}

// answered makes nobody wait for the answer of p any more.
func (pc *peerCache) answered(p peer) {
	if c, ok := pc.asked[p]; ok {
		delete(pc.asked, p)
		close(c)
	}
}

// spokeStep is how exactly it is known when a peer has last spoken iWARP.
const spokeStep = time.Millisecond

// isMore reports whether l says more than that the peer spoke iWARP.
func (l *lesson) isMore() bool {
	return l.isMute() || l.to.Port != 0 || l.other.addr.IsValid() || !l.trouble.IsZero() || l.foreign
}

// spoke remembers that p speaks iWARP.
func (pc *peerCache) spoke(p peer, now time.Time) {
	pc.mu.Lock()
	defer pc.mu.Unlock()
	if l := pc.m[p]; l == nil || l.isMore() || now.Sub(l.spoke) >= spokeStep {
		pc.keep(p, lesson{spoke: now}, now)
	}
	pc.answered(p) // even where another dial has found it out
}

// learnRedirect remembers where the device of p listens.
func (pc *peerCache) learnRedirect(p peer, to redirect.To, now time.Time) {
	pc.mu.Lock()
	defer pc.mu.Unlock()
	pc.keep(p, lesson{to: to, until: now.Add(peerTTL), spoke: now}, now)
}

// learnInstead remembers, for as long as p is known not to speak iWARP, that another address of the
// name does.
func (pc *peerCache) learnInstead(p peer, name string, addr netip.AddrPort) {
	pc.mu.Lock()
	defer pc.mu.Unlock()
	if l := pc.m[p]; l != nil && l.isMute() {
		l.other = instead{name: name, addr: addr}
	}
}

// insteadFailed has dials to the name do without addr, which they had instead of p, each time for
// twice as long.
func (pc *peerCache) insteadFailed(p peer, name string, addr netip.AddrPort, began, now time.Time) {
	pc.mu.Lock()
	defer pc.mu.Unlock()
	if l := pc.m[p]; l != nil && l.other.name == name && l.other.addr == addr && !began.Before(l.other.from) {
		l.other.pause = min(max(passingTTL, costTimes*now.Sub(began), 2*l.other.pause), maxTTL)
		l.other.from = now.Add(l.other.pause)
	}
}

// forgetRedirect forgets where the device of p listens.
func (pc *peerCache) forgetRedirect(p peer) {
	pc.mu.Lock()
	defer pc.mu.Unlock()
	if l := pc.m[p]; l != nil {
		l.to = redirect.To{}
	}
}

func (pc *peerCache) keep(p peer, l lesson, now time.Time) {
	if pc.m == nil {
		pc.m, pc.mutes = make(map[peer]*lesson), make(map[netip.Addr]*mutes)
	}
	if _, ok := pc.m[p]; !ok && len(pc.m) >= maxPeers {
		pc.makeRoom(now)
	}
	pc.drop(p)
	pc.m[p] = &l
	if !l.isMute() {
		return
	}
	h := pc.mutes[p.addr.Addr()]
	if h == nil {
		h = new(mutes)
		pc.mutes[p.addr.Addr()] = h
	}
	h.n++
	h.fresh = true
}

func (pc *peerCache) drop(p peer) {
	l := pc.m[p]
	if l == nil {
		return
	}
	l.gone = true
	delete(pc.m, p)
	host := p.addr.Addr()
	if h := pc.mutes[host]; h != nil && l.isMute() {
		if h.n--; h.n == 0 {
			delete(pc.mutes, host)
		}
	}
}

// makeRoom drops everything that is out of date, or else any one.
func (pc *peerCache) makeRoom(now time.Time) {
	if now.Sub(pc.swept) >= time.Second {
		pc.swept = now
		for p, l := range pc.m {
			if l.stale(now) {
				pc.drop(p)
			}
		}
	}
	for p := range pc.m {
		if len(pc.m) < maxPeers {
			return
		}
		pc.drop(p)
	}
}

// isMute reports whether the peer did not speak iWARP when it was asked.
func (l *lesson) isMute() bool { return l.why.Reason != ReasonNone }

// proves reports whether a failed set-up through software shows that the peer does not speak iWARP:
// it has sent something else.
func proves(err error) bool {
	return errors.Is(err, transport.ErrNotIWARP) && !hungUp(err)
}

// hungUp reports whether a set-up failed because the connection ended.
func hungUp(err error) bool {
	var errno syscall.Errno
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &errno)
}
