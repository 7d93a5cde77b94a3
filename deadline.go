package iwarp

import (
	"sync"
	"time"
)

// deadline is a point in time that can be moved, with a channel that is closed once it has passed.
type deadline struct {
	mu    sync.Mutex
	timer *time.Timer
	c     chan struct{}
}

// passed returns the channel for the present setting.
func (d *deadline) passed() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.c
}

// set moves the deadline to t, never for the zero time. Who waits on the channel of a setting that had not
// passed is woken, too, if the new one passes.
func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil && !d.timer.Stop() {
		<-d.c // the timer fires or has fired
	}
	d.timer = nil
	if d.c == nil || isClosed(d.c) {
		d.c = make(chan struct{})
	}
	if t.IsZero() {
		return
	}
	left := time.Until(t)
	if left <= 0 {
		close(d.c)
		return
	}
	c := d.c
	d.timer = time.AfterFunc(left, func() { close(c) })
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
