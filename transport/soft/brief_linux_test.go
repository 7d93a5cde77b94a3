//go:build !race

package soft

import (
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// stopped returns a brevity whose periods end only when the test says so.
func stopped() *brevity {
	b := &brevity{timer: time.AfterFunc(time.Hour, func() {})}
	b.timer.Stop()
	b.timed.Store(true)
	return b
}

func TestCallsAreBriefWhileFewAreBusy(t *testing.T) {
	b := stopped()
	users := make([]briefUser, briefBusy*runtime.GOMAXPROCS(0)+1)
	period := func(busy int) bool {
		for range 3 {
			for i := range busy {
				b.count(&users[i])
			}
		}
		b.next()
		return b.few.Load()
	}
	period(0)
	require.True(t, period(1))
	require.True(t, period(len(users)-1))
	require.False(t, period(len(users)))
	require.True(t, period(1))
	require.False(t, period(0))
	require.False(t, b.timed.Load())
	require.True(t, period(1))
	b.timer.Stop()
}

// A goroutine that computes without end must not keep others from running, although no call has
// told the scheduler of anything.
func TestBriefCallsLeaveOthersTheirTurn(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var u briefUser
	for end := time.Now().Add(10 * time.Second); !brief.few.Load(); time.Sleep(time.Millisecond) {
		require.True(t, time.Now().Before(end))
		u.count()
	}
	var stop atomic.Bool
	go stop.Store(true)
	for end := time.Now().Add(10 * time.Second); !stop.Load(); {
		if time.Now().After(end) {
			t.Fatal("the other goroutine never got its turn")
		}
	}
}
