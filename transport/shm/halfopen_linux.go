package shm

import (
	"container/list"
	"context"
	"net"
	"sync"
	"time"
)

// halfOpen holds the connections of a listener that nobody has accepted, of which there is a
// bounded number. When there are too many, the oldest one whose request is still to come gives way.
type halfOpen struct {
	mu     sync.Mutex
	most   int
	n      int
	silent list.List     // of *arrival: those whose request is still to come, oldest first
	room   chan struct{} // says once that n has fallen
}

func newHalfOpen(most int) *halfOpen { return &halfOpen{most: most, room: make(chan struct{}, 1)} }

// An arrival is a connection of a halfOpen.
type arrival struct {
	c      *net.UnixConn
	cancel context.CancelFunc
	since  time.Time
	place  *list.Element // nil once the request has come, or it had to give way
	cut    bool          // it had to, and its place belongs to another one
}

// requestGrace is the age from which a connection may have to give way. Younger ones may just not
// have been looked at yet.
var requestGrace = 100 * time.Millisecond

// enter adds a. Where all others wait for Accept or are young, it waits for room until ctx is done.
func (h *halfOpen) enter(ctx context.Context, a *arrival) error {
	for {
		ok, young := h.admit(a)
		if ok {
			return nil
		}
		var grown <-chan time.Time // never, if all wait for Accept
		if young > 0 {
			t := time.NewTimer(young)
			defer t.Stop()
			grown = t.C
		}
		select {
		case <-h.room:
		case <-grown:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// admit adds a if there is room or another can give way, and otherwise returns how long the other
// will still be too young.
func (h *halfOpen) admit(a *arrival) (ok bool, young time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	a.since = time.Now()
	if h.n == h.most {
		e := h.silent.Front()
		if e == nil {
			return false, 0
		}
		oldest := e.Value.(*arrival)
		if young := requestGrace - a.since.Sub(oldest.since); young > 0 {
			return false, young
		}
		h.silent.Remove(e)
		oldest.reset()
		h.n--
	}
	h.n++
	a.place = h.silent.PushBack(a)
	return true, 0
}

// reset ends a for want of room. The caller holds mu.
func (a *arrival) reset() {
	a.place, a.cut = nil, true
	_ = a.c.Close()
	a.cancel()
}

// spoken records that the request of a has come. It reports false if a had to give way before.
func (h *halfOpen) spoken(a *arrival) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if a.place != nil {
		h.silent.Remove(a.place)
		a.place = nil
	}
	return !a.cut
}

// leave takes a out.
func (h *halfOpen) leave(a *arrival) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if a.place != nil {
		h.silent.Remove(a.place)
		a.place = nil
	}
	if a.cut {
		return
	}
	h.n--
	select {
	case h.room <- struct{}{}:
	default: // only one enters at a time
	}
}
