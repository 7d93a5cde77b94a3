package shm

import (
	"math"
	"math/rand/v2"
	"slices"
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
// rows of its waits, keeps the best one for a while, and the server follows. What counts is the
// second best of the rows: others may have the processor during any of them, and the system may
// take some to give each end a processor of its own.
type choice struct {
	way    way
	kept   way           // after the last trial
	left   int           // waits until the row may end
	trying bool          // and not keeping the best way
	row    int           // of the trial
	keeps  time.Duration // how long the best way is kept; 0 before the first trial
	until  time.Time     // it is kept
	began  time.Time     // the row; zero if that does not count
	done   uint64        // up to the row
	tried  [ways]struct {
		rows int                // that count
		took [trialRows]float32 // for each byte
	}
}

const (
	trialRows  = 5 // of each way
	leastWaits = 8 // of a row, and up to twice as many, so that the two ends do not keep step
	leastRow   = time.Millisecond
	// keptTime is how long the best way is kept, and twice as long each time that it is the best
	// again, up to longKept.
	keptTime = 50 * time.Millisecond
	longKept = 32 * keptTime
)

// next returns the way of a wait that begins now. done tells how many bytes have moved.
func (c *choice) next(now time.Time, done func() uint64) way {
	if c.left--; c.left >= 0 || c.trying && !c.began.IsZero() && now.Sub(c.began) < leastRow {
		return c.way
	}
	c.left = leastWaits + rand.IntN(leastWaits)
	if !c.trying && now.Before(c.until) {
		return c.way
	}
	moved := done()
	if c.trying {
		c.count(now, moved)
		c.row++
	} else {
		c.trying, c.row = true, 0
		clear(c.tried[:])
	}
	if c.way = way(c.row / trialRows); c.way == ways {
		c.decide(now)
	}
	c.began, c.done = now, moved
	return c.way
}

// count counts the row that ends.
func (c *choice) count(now time.Time, moved uint64) {
	if c.began.IsZero() || moved == c.done {
		return
	}
	t := &c.tried[c.way]
	t.took[t.rows] = float32(now.Sub(c.began)) / float32(moved-c.done)
	t.rows++
}

// decide ends the trial.
func (c *choice) decide(now time.Time) {
	c.trying, c.way = false, wayPoller
	least := float32(math.Inf(1))
	for w := range ways {
		t := &c.tried[w]
		slices.Sort(t.took[:t.rows])
		if t.rows > 1 && t.took[1] < least {
			c.way, least = w, t.took[1]
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
