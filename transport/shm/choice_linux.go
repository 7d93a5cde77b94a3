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
	left   int  // waits until the row ends
	trying bool // and not keeping the best way
	rows   int  // of the way that are left to try
	until  time.Time
	began  time.Time           // the row; zero if that does not count
	done   uint64              // up to the row
	best   [ways]time.Duration // for what was done in the best row of each way
}

const (
	trialRows = 4 // of each way
	leastRow  = 8 // waits, and up to twice as many, so that the two ends do not keep step
	// settleTime is how long is tried to look: two threads that have slept in turns are on one
	// processor, as a rule, and it takes the system some time to move one away that does not sleep.
	settleTime = 8 * time.Millisecond
	keptTime   = 200 * time.Millisecond
	progress   = 1 << 10 // bytes that times are compared for
)

// next returns the way of a wait that begins now. done tells how many bytes have moved.
func (c *choice) next(now time.Time, done func() uint64) way {
	if c.left--; c.left >= 0 {
		return c.way
	}
	moved := done()
	if c.trying && !c.began.IsZero() {
		took := now.Sub(c.began) * progress / time.Duration(max(moved-c.done, 1))
		c.best[c.way] = min(c.best[c.way], took)
	}
	c.rows--
	switch {
	case c.trying && c.rows > 0, now.Before(c.until):
	case !c.trying:
		c.trying, c.way, c.rows = true, wayPoller, trialRows
		c.best = [ways]time.Duration{time.Hour, time.Hour, time.Hour}
	case c.way < wayLook:
		if c.way, c.rows = c.way+1, trialRows; c.way == wayLook {
			c.until = now.Add(settleTime)
		}
	default:
		c.trying, c.way, c.until = false, wayPoller, now.Add(keptTime)
		for w := range ways {
			if c.best[w] < c.best[c.way] {
				c.way = w
			}
		}
	}
	c.left = leastRow + rand.IntN(leastRow)
	c.began, c.done = now, moved
	return c.way
}

// cut ends the row, which does not count, as a wait was long.
func (c *choice) cut() {
	if c.trying {
		c.left, c.began = 0, time.Time{}
	}
}
