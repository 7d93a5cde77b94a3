package shm

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestChoice keeps the way whose waits take less time, and tries again later.
func TestChoice(t *testing.T) {
	now := time.Unix(1000, 0)
	done := uint64(0)
	for _, most := range []way{wayDoze, wayLook} {
		c := choice{most: most}
		for i := range 3 * (most + 1) {
			good := i % (most + 1)
			var chosen [ways]int
			const waits = 10 * keptWaits
			for range waits {
				done++
				w := c.next(now, done)
				chosen[w]++
				now = now.Add(5)
				if w != good {
					now = now.Add(5)
				}
			}
			require.Greater(t, chosen[good], waits*3/4)
		}
	}
}

// TestChoiceAfterLongWaits counts no row that one of them has cut short.
func TestChoiceAfterLongWaits(t *testing.T) {
	now := time.Unix(1000, 0)
	c := choice{most: wayDoze}
	for done := uint64(1); done < 10*keptWaits; done++ {
		if c.next(now, done) == wayDoze {
			require.NotZero(t, c.rows, "dozing was never found to be better")
			c.cut()
		}
		now = now.Add(10)
	}
}
