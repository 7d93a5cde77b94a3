package iwarp

import (
	"container/list"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/rdmanet/iwarp/internal/brief"
	"github.com/rdmanet/iwarp/internal/guard"
	"github.com/rdmanet/iwarp/internal/limits"
	"github.com/rdmanet/iwarp/internal/redirect"
	"github.com/rdmanet/iwarp/internal/sniff"
)

const (
	// maxHalfOpen bounds the connections of a listener that it has not identified yet, unless
	// configured otherwise.
	maxHalfOpen = 1024
	// minHalfOpen is allowed however few descriptors the process may have.
	minHalfOpen = 16
	// halfOpenShare is the part of the descriptors that half-open connections may take.
	halfOpenShare = 8
	// silentShare is the part of the half-open connections whose first bytes may be still to come.
	silentShare = 2

	// fairTime is what each of them has until it may have to give way to another: more, up to
	// mostFairTime, where clients that have asked for iWARP lately took long for that, as where the
	// machine is busy.
	fairTime     = 100 * time.Millisecond
	mostFairTime = time.Second
	// promptTime is what the first bytes and a handshake take where nothing is in the way, and fewSlow
	// is how many clients that take longer are no burden.
	promptTime = 2 * time.Millisecond
	fewSlow    = 8
	// slowHalf is the time in which half of what slow clients take is forgotten.
	slowHalf = 10 * time.Second
	// lookAhead is how many older connections are checked by one that must not overtake them.
	lookAhead = 4
)

// halfOpen is a connection that is not identified yet. Its first bytes are waited for, then the
// end of a handshake.
type halfOpen struct {
	c       *net.TCPConn   // nil for a device's request
	since   time.Time      // when it came
	said    int            // bytes of it that have been seen
	start   guard.Start    // of its first byte, once asked for
	silent  bool           // its first bytes are waited for
	until   time.Time      // for how long
	ctx     *brief.Context // of a handshake
	done    bool           // with waiting
	cut     bool           // its time was cut short
	inWay   bool           // younger ones may have to wait for it
	surplus bool           // its peer has too many
	place   *place         // of its peer's, if those are counted
	settled chan struct{}  // closed when there is news of it, if somebody waits for that
	elem    *list.Element

	// Of a handshake.
	shake brief.Context
	l     *Listener
	host  netip.Addr
	ask   redirect.Request
}

// halfOpenSet holds half-open connections in the order of their arrival.
type halfOpenSet struct {
	limit int // as configured, 0 for the bounds above

	mu     sync.Mutex
	list   list.List // of *halfOpen
	silent int       // how many in the list are
	alive  int       // those in the list, and those that were cut and have not ended yet
	woken  bool      // nobody waits any more

	slowest time.Duration // that a client has lately taken to ask for iWARP
	slowAt  time.Time     // when that was
}

// add takes h in, and reports whether the oldest had to give way. The oldest then ends soon.
func (s *halfOpenSet) add(h *halfOpen) (cut bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h.done, h.cut, h.ctx = false, false, nil
	h.inWay = h.c != nil
	if e := s.inTheWay(); e != nil {
		s.cut(e)
		cut = true
	}
	h.elem = s.list.PushBack(h)
	s.alive++
	if h.silent = h.c != nil; h.silent {
		s.silent++
	}
	return cut
}

// inTheWay returns the connection that has to give way to another, or nil. Its caller holds s.mu.
func (s *halfOpenSet) inTheWay() *list.Element {
	most := s.limit
	if most == 0 {
		if s.silent < minHalfOpen/silentShare && s.list.Len() < minHalfOpen {
			return nil // whatever the limit is
		}
		most = max(minHalfOpen, min(maxHalfOpen, limits.Descriptors()/halfOpenShare))
	}
	silent := s.silent >= max(1, most/silentShare)
	if !silent && s.list.Len() < most {
		return nil
	}
	for e := s.list.Front(); e != nil; e = e.Next() {
		if h := e.Value.(*halfOpen); !h.done && (h.silent || !silent) {
			return e
		}
	}
	return nil
}

// cut ends the wait for a connection, whatever the wait is for. Its caller holds s.mu.
func (s *halfOpenSet) cut(e *list.Element) {
	h := e.Value.(*halfOpen)
	h.cut = true
	s.list.Remove(e)
	s.heard(h)
	h.makeWay()
	h.end()
}

// heard records that the first bytes of h are no longer waited for. Its caller holds s.mu.
func (s *halfOpenSet) heard(h *halfOpen) {
	if h.silent {
		h.silent = false
		s.silent--
	}
}

// room returns how long it takes until there is room for another, as nobody is cut before its time.
func (s *halfOpenSet) room() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.inTheWay(); e != nil {
		return s.fair() - time.Since(e.Value.(*halfOpen).since)
	}
	return 0
}

// fair returns what each connection has until it may have to give way. Its caller holds s.mu.
func (s *halfOpenSet) fair() time.Duration {
	return max(fairTime, min(2*s.slow(), mostFairTime))
}

// slow returns what slow clients take, as far as it is not forgotten. Its caller holds s.mu.
func (s *halfOpenSet) slow() time.Duration {
	if n := time.Since(s.slowAt) / slowHalf; n > 0 {
		s.slowest >>= min(n, 62)
		s.slowAt = s.slowAt.Add(n * slowHalf)
	}
	return s.slowest
}

// moment returns for how long clients should be left to others that accept from the queue. Most are
// identified at once, so the newest gets a moment to itself if there is already one for each call
// of Accept.
func (s *halfOpenSet) moment(calls int) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.list.Len(); n > 0 && n >= calls && n <= fewSlow {
		return promptTime - time.Since(s.list.Back().Value.(*halfOpen).since)
	}
	return 0
}

// await bounds the wait for the first bytes of h.
func (s *halfOpenSet) await(h *halfOpen, until time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.cut || s.woken {
		until = past
	}
	h.until = until
	h.tell()
	_ = h.c.SetReadDeadline(until)
}

// shaking lets the end of ctx end the wait for h, and reports whether to wait for h at all.
func (s *halfOpenSet) shaking(h *halfOpen, ctx *brief.Context) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.silent {
		slow := s.slow()
		s.slowest = slow - slow/8
		if took := min(time.Since(h.since), mostFairTime); took > s.slowest {
			s.slowest, s.slowAt = took, time.Now()
		}
	}
	s.heard(h)
	h.makeWay()
	h.ctx = ctx
	return !h.cut && !s.woken
}

// decide ends the waiting for h, and reports whether it was cut short.
func (s *halfOpenSet) decide(h *halfOpen) (cut bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard(h)
	h.done = true
	return h.cut
}

// hasCut reports whether h had to give way.
func (s *halfOpenSet) hasCut(h *halfOpen) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return h.cut
}

func (s *halfOpenSet) remove(h *halfOpen) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard(h)
	h.makeWay()
	s.list.Remove(h.elem) // which does nothing if it was cut
	s.alive--
}

// queue waits for older connections that are about to be identified, so that h does not overtake
// them.
func (s *halfOpenSet) queue(h *halfOpen) {
	for {
		settled := s.ahead(h)
		if settled == nil {
			return
		}
		<-settled
	}
}

// ahead returns what is closed when there is news of a connection that is about to be identified
// and is older than h, or than a new one if h is nil. It returns nil if there is none. It does not
// look far, so it costs next to nothing.
func (s *halfOpenSet) ahead(h *halfOpen) (settled <-chan struct{}) {
	var older [lookAhead]*halfOpen
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.list.Back()
	if h != nil {
		e = h.elem.Prev()
	}
	now := time.Now()
	for n := 0; e != nil && n < len(older); e = e.Prev() {
		o := e.Value.(*halfOpen)
		switch {
		case !o.inWay:
			continue
		case o.done, !o.until.After(now):
			return o.news()
		}
		older[n] = o
		n++
	}
	for _, o := range older {
		if o != nil && o.hasSpoken() {
			return o.news()
		}
	}
	return nil
}

// hasSpoken reports whether what has come, noticed or not, shows that h is plain TCP.
func (h *halfOpen) hasSpoken() bool {
	first, _ := sniff.Look(h.c, false, sniff.Leave)
	return first.Verdict == sniff.PlainTCP
}

// news returns what is closed when there is some of h. Its caller holds the lock of the set.
func (h *halfOpen) news() <-chan struct{} {
	if h.settled == nil {
		h.settled = make(chan struct{})
	}
	return h.settled
}

// tell makes those that wait for news of h look again. Its caller holds the lock of the set.
func (h *halfOpen) tell() {
	if h.settled != nil {
		close(h.settled)
		h.settled = nil
	}
}

// makeWay makes nobody wait for h any more. Its caller holds the lock of the set.
func (h *halfOpen) makeWay() {
	h.inWay = false
	h.tell()
}

// wake ends every wait, including those to come.
func (s *halfOpenSet) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.woken = true
	for e := s.list.Front(); e != nil; e = e.Next() {
		if h := e.Value.(*halfOpen); !h.done {
			h.end()
		}
	}
}

func (s *halfOpenSet) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.alive
}

func (h *halfOpen) end() {
	switch {
	case h.ctx != nil:
		h.ctx.End()
	case h.c != nil:
		_ = h.c.SetReadDeadline(past)
	}
}

// past is a deadline that has passed.
var past = time.Unix(1, 0)
