package shm

import (
	"math/rand/v2"
	"time"
)

// A way is how a call waits.
type way uint8

const (
	wayPoller way = iota
	wayDoze
	wayLook // only with Config.Poll
	ways
)

// A choice is how the brief waits of a connection are spent. Which way is faster depends on what
// others do: where a goroutine hands on to another what it reads, a thread that is blocked is in
// the way, and on a busy machine one that looks for news. So all are tried in turn, in rows of
// waits, and the best one is kept for a while.
type choice struct {
	way   way
	most  way // there is
	left  int // waits until the row ends, or the best way was kept long enough
	rows  int // of the trial that are left; 0 while the best way is kept
	began time.Time
	done  uint64              // waits and records up to the row
	best  [ways]time.Duration // for a wait or a record in the best row of each way
}

const (
	trialRows = 4 // of each way
	leastRow  = 8 // waits, and up to twice as many, so that the two ends do not keep step
	keptWaits = 2048
)

// next returns the way of a wait that begins now. done counts the waits and the records that have
// come.
func (c *choice) next(now time.Time, done uint64) way {
	if c.left--; c.left >= 0 {
		return c.way
	}
	if c.rows == 0 {
		c.rows, c.best = trialRows*int(c.most+1)+1, [ways]time.Duration{time.Hour, time.Hour, time.Hour}
	} else {
		took := now.Sub(c.began) / time.Duration(max(done-c.done, 1))
		c.best[c.way] = min(c.best[c.way], took)
	}
	if c.rows--; c.rows == 0 {
		c.way, c.left = wayPoller, keptWaits
		for w := range c.most + 1 {
			if c.best[w] < c.best[c.way] {
				c.way = w
			}
		}
		return c.way
	}
	c.way, c.left = (c.way+1)%(c.most+1), leastRow+rand.IntN(leastRow)
	c.began, c.done = now, done
	return c.way
}

// cut ends the row, which does not count, as a wait was long.
func (c *choice) cut() {
	if c.rows > 0 {
		c.left, c.began = 0, time.Time{}
	}
}
