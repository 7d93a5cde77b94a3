package shm

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestChoice keeps the way whose waits take less time, and tries again later.
func TestChoice(t *testing.T) {
	now := time.Unix(1000, 0)
	moved := uint64(0)
	var c choice
	for i := range 3 * ways {
		good := i % ways
		var chosen [ways]time.Duration
		const long = 20 * longKept
		for end := now.Add(long); now.Before(end); {
			moved += 128
			w := c.next(now, func() uint64 { return moved })
			took := 100 * time.Microsecond
			if w != good {
				took *= 2
			}
			chosen[w] += took
			now = now.Add(took)
		}
		require.Greater(t, chosen[good], long*3/4)
	}
}

// TestChoiceAfterLongWaits counts no row that one of them has cut short.
func TestChoiceAfterLongWaits(t *testing.T) {
	now := time.Unix(1000, 0)
	var c choice
	moved := uint64(0)
	for end := now.Add(10 * keptTime); now.Before(end); {
		moved += 128
		if w := c.next(now, func() uint64 { return moved }); w != wayPoller {
			require.True(t, c.trying, "another way was never found to be better")
			c.cut()
		}
		now = now.Add(10 * time.Microsecond)
	}
}
