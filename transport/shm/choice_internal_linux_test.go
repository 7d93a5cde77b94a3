package shm

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestChoice keeps the way whose waits take less time, and tries again later.
func TestChoice(t *testing.T) {
	now := time.Unix(1000, 0)
	var c choice
	done := uint64(0)
	// run makes waits of which those of the two ways take that long, and returns how many dozed.
	run := func(waits int, sleep, doze time.Duration) (dozed int) {
		for range waits {
			done++
			if c.next(now, done) {
				dozed++
				now = now.Add(doze)
			} else {
				now = now.Add(sleep)
			}
		}
		return dozed
	}
	const waits = 10 * keptWaits
	for range 3 {
		require.Greater(t, run(waits, 10, 5), waits*3/4)
		require.Less(t, run(waits, 5, 10), waits/4)
	}
}

// TestChoiceAfterLongWaits counts no row that one of them has cut short.
func TestChoiceAfterLongWaits(t *testing.T) {
	now := time.Unix(1000, 0)
	var c choice
	for done := uint64(1); done < 10*keptWaits; done++ {
		if c.next(now, done) {
			require.NotZero(t, c.rows, "dozing was never found to be better")
			c.cut()
		}
		now = now.Add(10)
	}
}
