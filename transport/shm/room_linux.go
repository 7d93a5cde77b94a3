package shm

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// A waitingRoom holds the meetings that Route has made until Dial takes them, so that a dial
// connects once, and the links of connections that have ended. What nobody takes is closed soon.
type waitingRoom struct {
	mu    sync.Mutex
	m     map[site][]*meeting
	links int           // of these
	fresh int           // the others
	keeps time.Duration // how long a link waits
	age   time.Duration // up to which a link is kept
	timer *time.Timer
	armed bool
}

const (
	meetingPatience = time.Second
	mostFresh       = 64 // meetings without a link
	sweepPeriod     = linkTime
)

func (w *waitingRoom) put(remote site, m *meeting) {
	patience := meetingPatience
	if m.link != nil {
		patience = w.keeps
	}
	m.until = time.Now().Add(patience)
	w.mu.Lock()
	var out *meeting
	switch {
	case m.link == nil && w.fresh == mostFresh:
		out = w.evictFresh()
	case m.link != nil && w.links == mostLinks:
		if out = w.evict(); out == nil {
			out = m
		}
	}
	if out != m {
		if m.link != nil {
			w.links++
		} else {
			w.fresh++
		}
		if w.m == nil {
			w.m = make(map[site][]*meeting)
		}
		w.m[remote] = append(w.m[remote], m)
		w.arm()
	}
	w.mu.Unlock()
	if out != nil {
		out.close()
	}
}

// evict returns a link that has left for another, or nil: one whose peer is not done with it, and
// may never be. The caller holds mu.
func (w *waitingRoom) evict() *meeting {
	for remote, list := range w.m {
		for i, m := range list {
			if m.link != nil && !m.link.done() {
				w.remove(remote, i)
				return m
			}
		}
	}
	return nil
}

// evictFresh returns the oldest meeting without a link, which has left. The caller holds mu, and
// knows that there is one.
func (w *waitingRoom) evictFresh() (m *meeting) {
	var of site
	var at int
	for remote, list := range w.m {
		for i, o := range list {
			if o.link == nil && (m == nil || o.until.Before(m.until)) {
				m, of, at = o, remote, i
			}
		}
	}
	w.remove(of, at)
	return m
}

// close ends a meeting that has led to nothing.
func (m *meeting) close() {
	if m.link != nil {
		m.link.close()
		return
	}
	hangUp(m.c)
}

// take returns a meeting with whoever listens at remote, or nil.
func (w *waitingRoom) take(remote site) *meeting {
	for {
		m := w.next(remote, true)
		if m == nil || m.link == nil {
			return m
		}
		m.link.last.end(true)
		if m.link.self == thisUser() && known.trusts(m.link, remote) && m.link.renew() {
			return m
		}
		m.close()
	}
}

// has reports whether there is a meeting with whoever listens at remote. The port of a link's last
// connection is then there for the next one.
func (w *waitingRoom) has(remote site) bool {
	m := w.next(remote, false)
	if m == nil {
		return false
	}
	if m.link != nil {
		m.link.last.end(true)
	}
	return true
}

// next returns the oldest meeting with whoever listens at remote that is of use, or nil. takes says
// that it leaves the room.
func (w *waitingRoom) next(remote site, takes bool) *meeting {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := w.m[remote]
	for i, m := range list {
		if m.link != nil && !m.link.over() || m.link == nil && !takes && m.ended() {
			continue
		}
		if takes {
			w.remove(remote, i)
		}
		return m
	}
	return nil
}

// ended reports whether the other process has left the meeting.
func (m *meeting) ended() (yes bool) {
	raw, err := m.c.SyscallConn()
	if err == nil {
		yes, err = peerHungUp(raw)
	}
	return yes || err != nil
}

// remove takes out the meeting at i of those that wait for remote. The caller holds mu.
func (w *waitingRoom) remove(remote site, i int) {
	list := w.m[remote]
	w.left(list[i])
	w.set(remote, slices.Delete(list, i, i+1))
}

// set makes list what waits for remote. The caller holds mu.
func (w *waitingRoom) set(remote site, list []*meeting) {
	if len(list) > 0 {
		w.m[remote] = list
	} else {
		delete(w.m, remote)
	}
}

// left counts a meeting that has left. The caller holds mu.
func (w *waitingRoom) left(m *meeting) {
	if m.link != nil {
		w.links--
	} else {
		w.fresh--
	}
}

// arm makes sure that sweep is called after a while. The caller holds mu.
func (w *waitingRoom) arm() {
	switch {
	case w.armed:
		return
	case w.timer == nil:
		w.timer = time.AfterFunc(sweepPeriod, w.sweep)
	default:
		w.timer.Reset(sweepPeriod)
	}
	w.armed = true
}

// sweep closes what has waited for too long.
func (w *waitingRoom) sweep() {
	now := time.Now()
	w.mu.Lock()
	w.armed = false
	w.mu.Unlock()
	w.closeIf(func(m *meeting) bool { return !now.Before(m.until) })
}

// clear closes all meetings, as something is short. It reports whether there were some.
func (w *waitingRoom) clear() bool { return w.closeIf(func(*meeting) bool { return true }) }

func (w *waitingRoom) closeIf(of func(*meeting) bool) bool {
	var gone []*meeting
	w.mu.Lock()
	for remote, list := range w.m {
		kept := list[:0]
		for _, m := range list {
			if of(m) {
				gone = append(gone, m)
				w.left(m)
			} else {
				kept = append(kept, m)
			}
		}
		clear(list[len(kept):])
		w.set(remote, kept)
	}
	if len(w.m) > 0 {
		w.arm()
	}
	w.mu.Unlock()
	for _, m := range gone {
		m.close()
	}
	return len(gone) > 0
}

// spare calls f, and where that lacks something, once more without the meetings.
func (w *waitingRoom) spare(f func() error) error {
	err := f()
	if isLack(err) && w.clear() {
		err = f()
	}
	return err
}

// meet returns a meeting with whoever listens at p.
func (t *Transport) meet(ctx context.Context, local netip.Addr, p site) (m *meeting, err error) {
	err = t.room.spare(func() error {
		m, err = meet(ctx, local, p)
		return err
	})
	return m, err
}

// sourceOf returns the address that a connection to p comes from.
func (t *Transport) sourceOf(local netip.Addr, p site) (source netip.Addr, err error) {
	err = t.room.spare(func() error {
		source, err = sourceOf(local, p)
		return err
	})
	return source, err
}
