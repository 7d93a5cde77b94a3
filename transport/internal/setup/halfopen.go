package setup

import (
	"container/list"
	"context"
	"sync"
	"time"
)

// HalfOpen holds the connections of a listener that nobody has accepted, of which there is a
// bounded number. When there are too many, the oldest one whose request is still to come gives way.
type HalfOpen struct {
	mu     sync.Mutex
	most   int
	n      int
	silent list.List     // of *Arrival: those whose request is still to come, oldest first
	room   chan struct{} // says once that n has fallen
}

// NewHalfOpen returns one that holds most connections.
func NewHalfOpen(most int) *HalfOpen { return &HalfOpen{most: most, room: make(chan struct{}, 1)} }

// An Arrival is a connection of a HalfOpen.
type Arrival struct {
	Cancel context.CancelFunc // ends its set-up
	Reset  func()             // ends its connection for want of room

	since time.Time
	place *list.Element // nil once the request has come, or it had to give way
	cut   bool          // it had to, and its place belongs to another
}

// RequestGrace is the age from which a connection may have to give way. Younger ones may just not
// have been looked at yet.
var RequestGrace = 100 * time.Millisecond

// Enter adds a. Where all others wait for Accept or are young, it waits for room until ctx is done.
// Once ctx is done it adds nothing, even where there is room.
func (h *HalfOpen) Enter(ctx context.Context, a *Arrival) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
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

// TryEnter adds a if there is room at once, and reports that.
func (h *HalfOpen) TryEnter(a *Arrival) bool {
	ok, _ := h.admit(a)
	return ok
}

// Attend has f see to a in a goroutine of wg's, once there is room for it. f is told to end, by its
// context, when a has to give way or ctx is done. Attend reports false if ctx was done before.
func (h *HalfOpen) Attend(ctx context.Context, wg *sync.WaitGroup, a *Arrival, f func(ctx context.Context)) bool {
	ctx, a.Cancel = context.WithCancel(ctx)
	if h.Enter(ctx, a) != nil {
		a.Cancel()
		return false
	}
	wg.Go(func() {
		defer a.Cancel()
		defer h.Leave(a)
		f(ctx)
	})
	return true
}

// admit adds a if there is room or another can give way, and otherwise returns how long the other
// will still be too young.
func (h *HalfOpen) admit(a *Arrival) (ok bool, young time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	a.since = time.Now()
	if h.n == h.most {
		e := h.silent.Front()
		if e == nil {
			return false, 0
		}
		oldest := e.Value.(*Arrival)
		if young := RequestGrace - a.since.Sub(oldest.since); young > 0 {
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
func (a *Arrival) reset() {
	a.place, a.cut = nil, true
	a.Reset()
	a.Cancel()
}

// Spoken records that the request of a has come. It reports false if a had to give way before.
func (h *HalfOpen) Spoken(a *Arrival) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if a.place != nil {
		h.silent.Remove(a.place)
		a.place = nil
	}
	return !a.cut
}

// Leave takes a out.
func (h *HalfOpen) Leave(a *Arrival) {
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
