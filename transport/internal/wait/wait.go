// Package wait has the calls that wait for a queue pair take turns: one of them has the token and
// drives, which may bring news, and the others follow until there is some or the token is free.
package wait

import (
	"errors"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/rdmanet/iwarp/transport"
)

// ErrAgain is what a step returns after which its caller checks its condition again.
var ErrAgain = errors.New("look again")

// A Condition is what some calls wait for. Whether it holds, a Driver knows.
type Condition struct {
	// asked counts the interrupts. Each ends the calls under way at the time, or else the next one: a
	// call ends if there are more than taken was when it began.
	asked, taken atomic.Uint32

	// Blocked is for the driver: it is true while a call is blocked in driving, and must be kicked
	// when another goroutine makes the condition hold.
	Blocked atomic.Bool
}

// Begin begins a call, and returns what shows later whether it was interrupted.
func (c *Condition) Begin() (seen uint32) { return c.taken.Load() }

// Interrupt ends the calls that wait for c, or else the next one, as soon as they check.
func (c *Condition) Interrupt() { c.asked.Add(1) }

// Interrupted reports whether a call that began with seen must end.
func (c *Condition) Interrupted(seen uint32) bool { return c.asked.Load() != seen }

// Take ends a call that was interrupted.
func (c *Condition) Take() error {
	c.taken.Store(c.asked.Load())
	return transport.ErrInterrupted
}

// settled reports whether a call for c that began with seen has nothing to wait for.
func settled(d Driver, c *Condition, seen uint32) bool {
	ok, err := d.Holds(c)
	return ok || err != nil || c.Interrupted(seen)
}

// A Driver does the work of all calls.
type Driver interface {
	// Holds reports whether c has come true, or with an error that it never will.
	Holds(c *Condition) (bool, error)
	// Drive does once what may bring news, and blocks for it until the deadline, news for the driving
	// call or an interrupt after seen. It returns ErrAgain, or what the call for c returns. The caller
	// has the token, and pauses without it.
	Drive(c *Condition, seen uint32, deadline time.Time) (Pause, error)
}

// A Token is a right that one has at a time. A new one is with nobody until it is given back once.
type Token struct{ free atomic.Bool }

// Take reports whether the caller has the token now.
func (t *Token) Take() bool { return t.free.CompareAndSwap(true, false) }

// A Crew is the calls that wait for one queue pair. Its token is the right to drive.
type Crew struct {
	Token
	followers atomic.Int32
	wake      atomic.Pointer[chan struct{}] // closed when there is news for the followers; nil while there are none
}

// Give gives back a token that calls of the crew take.
func (w *Crew) Give(t *Token) {
	t.free.Store(true)
	if w.Followed() {
		w.Wake()
	}
}

// For drives by d, or waits for the call that drives, until c holds. seen is what Begin returned.
func (w *Crew) For(d Driver, c *Condition, seen uint32, deadline time.Time) error {
	for {
		if ok, err := d.Holds(c); ok || err != nil {
			return err
		}
		if c.Interrupted(seen) {
			return c.Take()
		}
		if Expired(deadline) {
			return os.ErrDeadlineExceeded
		}
		if !w.Take() && !w.Follow(d, &w.Token, c, seen, deadline) {
			continue
		}
		pause, err := d.Drive(c, seen, deadline)
		w.Give(&w.Token)
		if err != ErrAgain {
			return err
		}
		if pause != NoPause {
			w.pause(d, pause, c, seen, deadline)
		}
	}
}

// Follow waits while another call has the token. It reports whether the caller has it now, and
// otherwise has to look again.
func (w *Crew) Follow(d Driver, t *Token, c *Condition, seen uint32, deadline time.Time) bool {
	wake := w.Join()
	defer w.Part()
	// News from before wake was made, and a token given back before that, are found here; what comes
	// later closes it.
	if settled(d, c, seen) {
		return false
	}
	if t.Take() {
		return true
	}
	Await(wake, deadline)
	return false
}

// Await waits for a token, until quit is closed, and reports whether the caller has it.
func (w *Crew) Await(t *Token, quit <-chan struct{}) bool {
	for !t.Take() {
		wake := w.Join()
		if t.Take() {
			w.Part()
			return true
		}
		select {
		case <-wake:
		case <-quit:
			w.Part()
			return false
		}
		w.Part()
	}
	return true
}

// pause lets others run, unless c holds or its call must end. That others pause as well is no news.
func (w *Crew) pause(d Driver, p Pause, c *Condition, seen uint32, deadline time.Time) {
	if p != Back {
		p.Take(nil, deadline)
		return
	}
	end := time.Now().Add(backTime)
	if !deadline.IsZero() && deadline.Before(end) {
		end = deadline
	}
	for !Expired(end) {
		wake := w.Join()
		over := settled(d, c, seen)
		if !over {
			Await(wake, end)
		}
		w.Part()
		if over {
			return
		}
	}
}

// Join makes the caller one of the followers, until Part. News closes the channel that it returns,
// and so does a token that is given back.
func (w *Crew) Join() <-chan struct{} {
	w.followers.Add(1)
	for {
		if wake := w.wake.Load(); wake != nil {
			return *wake
		}
		wake := make(chan struct{})
		w.wake.CompareAndSwap(nil, &wake)
	}
}

// Part ends what Join began.
func (w *Crew) Part() { w.followers.Add(-1) }

// Followed reports whether there are followers. One that is not counted yet checks its condition
// before it waits.
func (w *Crew) Followed() bool { return w.followers.Load() > 0 }

// Wake tells the followers of news.
func (w *Crew) Wake() {
	if wake := w.wake.Swap(nil); wake != nil {
		close(*wake)
	}
}

// Await waits for news or the deadline.
func Await(news <-chan struct{}, deadline time.Time) {
	var expiry <-chan time.Time
	if !deadline.IsZero() {
		timer := time.NewTimer(time.Until(deadline))
		defer timer.Stop()
		expiry = timer.C
	}
	select {
	case <-news:
	case <-expiry:
	}
}

// Expired reports whether a deadline has passed. The zero deadline never does.
func Expired(deadline time.Time) bool {
	return !deadline.IsZero() && !time.Now().Before(deadline)
}

// A Pause is how a driver makes way for others.
type Pause uint8

const (
	NoPause Pause = iota
	Yield         // others that can run do so first
	Back          // nothing is driven for a moment, unless there is news
)

const backTime = 2 * time.Millisecond

// Take pauses, with Back at most until there is news or the deadline passes.
func (p Pause) Take(news <-chan struct{}, deadline time.Time) {
	switch p {
	case Yield:
		runtime.Gosched()
	case Back:
		if end := time.Now().Add(backTime); deadline.IsZero() || end.Before(deadline) {
			deadline = end
		}
		Await(news, deadline)
	}
}
