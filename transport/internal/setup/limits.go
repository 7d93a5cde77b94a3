package setup

import (
	"net"
	"sync"
	"time"
)

// limits are the deadlines of all exchanges of the process. Nearly all are over long before, so
// they share one timer, which is left alone unless one of them is the next to expire: deadlines of
// the connections' own would take a timer each, and often wake a thread to wait for it.
var limits deadlines

// limitStep is the least time between two looks at the deadlines, and how late one may be noticed.
const limitStep = time.Millisecond

type deadlines struct {
	mu      sync.Mutex
	first   *limit
	timer   *time.Timer
	expires time.Time // when the timer does; the zero time means that it does not run
}

// A limit ends calls on a connection at its deadline.
type limit struct {
	c          net.Conn
	end        time.Time
	prev, next *limit
	listed     bool
}

var freeLimits = sync.Pool{New: func() any { return new(limit) }}

// add has calls on c time out from end on, until remove.
func (d *deadlines) add(c net.Conn, end time.Time) *limit {
	l := freeLimits.Get().(*limit)
	d.mu.Lock()
	defer d.mu.Unlock()
	*l = limit{c: c, end: end, next: d.first, listed: true}
	if d.first != nil {
		d.first.prev = l
	}
	d.first = l
	if d.expires.IsZero() || end.Before(d.expires) {
		d.set(end)
	}
	return l
}

// remove ends what add began: once it has returned, l leaves the connection alone.
func (d *deadlines) remove(l *limit) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.unlist(l)
	*l = limit{}
	freeLimits.Put(l)
}

// unlist takes l out of the list. The caller holds mu.
func (d *deadlines) unlist(l *limit) {
	if !l.listed {
		return
	}
	l.listed = false
	if l.prev != nil {
		l.prev.next = l.next
	} else {
		d.first = l.next
	}
	if l.next != nil {
		l.next.prev = l.prev
	}
}

// set has the timer expire at t. The caller holds mu.
func (d *deadlines) set(t time.Time) {
	d.expires = t
	wait := max(time.Until(t), limitStep)
	if d.timer == nil {
		d.timer = time.AfterFunc(wait, d.look)
		return
	}
	d.timer.Reset(wait)
}

// look ends what is due, and sets the timer for the next one.
func (d *deadlines) look() {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	d.expires = time.Time{}
	var next time.Time
	for l := d.first; l != nil; {
		after := l.next
		switch {
		case !now.Before(l.end):
			_ = l.c.SetDeadline(past)
			d.unlist(l)
		case next.IsZero() || l.end.Before(next):
			next = l.end
		}
		l = after
	}
	if !next.IsZero() {
		d.set(next)
	}
}
