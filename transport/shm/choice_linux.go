package shm

import (
	"math/rand/v2"
	"time"
)

// A way is how a call waits.
type way uint32

const (
	wayPoller way = iota
	wayDoze
	wayLook
	ways
)

// A choice is how the brief waits of a connection are spent, at both ends: to look for news, say,
// is of use only if the peer answers at once, as it has looked as well. Which way is faster depends
// on what others do: where a goroutine hands on to another what it reads, a thread that is blocked
// is in the way, and on a busy machine one that looks for news. So the client tries all in turn, in
// rows of its waits, keeps the best one for a while, and the server follows.
type choice struct {
	way    way
	kept   way           // after the last trial
	left   int           // waits until the row ends
	trying bool          // and not keeping the best way
	rows   int           // of the way that are left to try
	keeps  time.Duration // how long the best way is kept; 0 before the first trial
	until  time.Time     // it is kept
	began  time.Time     // the row; zero if that does not count
	done   uint64        // up to the row
	tried  [ways]struct {
		took  time.Duration
		moved uint64
	}
}

const (
	trialRows = 4 // of each way
	leastRow  = 8 // waits, and up to twice as many, so that the two ends do not keep step
	// keptTime is how long the best way is kept, and twice as long each time that it is the best
	// again, up to longKept.
	keptTime = 200 * time.Millisecond
	longKept = 8 * keptTime
)

// next returns the way of a wait that begins now. done tells how many bytes have moved.
func (c *choice) next(now time.Time, done func() uint64) way {
	if c.left--; c.left >= 0 {
		return c.way
	}
	moved := done()
	if c.trying && !c.began.IsZero() {
		t := &c.tried[c.way]
		t.took += now.Sub(c.began)
		t.moved += moved - c.done
	}
	c.rows--
	switch {
	case c.trying && c.rows > 0, !c.trying && now.Before(c.until):
	case !c.trying:
		c.trying, c.way, c.rows = true, wayPoller, trialRows
		clear(c.tried[:])
	case c.way < ways-1:
		c.way, c.rows = c.way+1, trialRows
	default:
		c.decide(now)
	}
	c.left = leastRow + rand.IntN(leastRow)
	c.began, c.done = now, moved
	return c.way
}

// decide ends the trial.
func (c *choice) decide(now time.Time) {
	c.trying, c.way = false, wayPoller
	for w := range ways {
		if a, b := c.tried[w], c.tried[c.way]; a.moved > 0 && (b.moved == 0 || float64(a.took)*float64(b.moved) < float64(b.took)*float64(a.moved)) {
			c.way = w
		}
	}
	c.keeps = min(2*c.keeps, longKept)
	if c.way != c.kept || c.keeps == 0 {
		c.kept, c.keeps = c.way, keptTime
	}
	c.until = now.Add(c.keeps)
}

// cut ends the row, which does not count, as a wait was long.
func (c *choice) cut() {
	if c.trying {
		c.left, c.began = 0, time.Time{}
	}
}
