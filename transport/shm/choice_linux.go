package shm

import (
	"math/rand/v2"
	"time"
)

// A choice says whether brief waits of a connection are spent dozing. Which way is faster depends on
// what other goroutines do: where one hands on to another what it reads, a blocked thread is in the
// way. So both are tried in turn, in rows of waits, and the better one is kept for a while.
type choice struct {
	doze  bool
	left  int // waits until the row ends, or the better way was kept long enough
	rows  int // of the trial that are left; 0 while the better way is kept
	began time.Time
	done  uint64           // waits and records up to the row
	best  [2]time.Duration // for a wait or a record in the best row of sleeping, and of dozing
}

const (
	trialRows = 8
	leastRow  = 8 // waits, and up to twice as many, so that the two ends do not keep step
	keptWaits = 2048
)

// next returns the choice for a wait that begins now. done counts the waits and the records that
// have come.
func (c *choice) next(now time.Time, done uint64) (doze bool) {
	if c.left--; c.left >= 0 {
		return c.doze
	}
	if c.rows == 0 {
		c.rows, c.best = trialRows+1, [2]time.Duration{time.Hour, time.Hour}
	} else if took := now.Sub(c.began) / time.Duration(max(done-c.done, 1)); c.doze {
		c.best[1] = min(c.best[1], took)
	} else {
		c.best[0] = min(c.best[0], took)
	}
	if c.rows--; c.rows == 0 {
		c.doze, c.left = c.best[1] < c.best[0], keptWaits
		return c.doze
	}
	c.doze, c.left = !c.doze, leastRow+rand.IntN(leastRow)
	c.began, c.done = now, done
	return c.doze
}

// cut ends the row, which does not count, as a wait was long.
func (c *choice) cut() {
	if c.rows > 0 {
		c.left, c.began = 0, time.Time{}
	}
}
