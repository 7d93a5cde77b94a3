//go:build amd64 || arm64

package rnic

import (
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestPendings bounds the connection requests that nobody accepts, in number and in time.
func TestPendings(t *testing.T) {
	var mu sync.Mutex
	var refused []*cmID
	var surplus int
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(refused)
	}
	newOnes := func(n int, limit time.Duration) *pendings {
		refused, surplus = nil, 0
		return newPendings(n, limit, func(p *pending, noRoom bool) {
			mu.Lock()
			defer mu.Unlock()
			refused = append(refused, p.id)
			if noRoom {
				surplus++
			}
		})
	}
	t.Run("number", func(t *testing.T) {
		ps := newOnes(8, time.Hour)
		ids := make([]*cmID, 1000)
		before := runtime.NumGoroutine()
		for i := range ids {
			ids[i] = new(cmID)
			ps.add(pending{id: ids[i]})
			require.LessOrEqual(t, runtime.NumGoroutine(), before, "no goroutine for each")
		}
		require.Equal(t, ids[8:], refused)
		require.Equal(t, 992, surplus)
		for i := range 8 {
			<-ps.ready
			p, ok := ps.take()
			require.True(t, ok)
			require.Same(t, ids[i], p.id, "in the order in which they came")
		}
		_, ok := ps.take()
		require.False(t, ok)
		ps.close()
		ps.add(pending{id: ids[0]})
		require.Equal(t, 993, count(), "refused behind close")
		require.Equal(t, 992, surplus, "which is no lack of room")
	})
	t.Run("time", func(t *testing.T) {
		ps := newOnes(8, time.Millisecond)
		for range 8 {
			ps.add(pending{id: new(cmID)})
		}
		for end := time.Now().Add(20 * time.Second); count() < 8 && time.Now().Before(end); {
			runtime.Gosched() // nobody calls
		}
		require.Equal(t, 8, count())
		require.Zero(t, surplus)
		_, ok := ps.take()
		require.False(t, ok)
		ps.mu.Lock()
		require.Nil(t, ps.aging, "no timer for nothing")
		ps.mu.Unlock()
		ps.close()
	})
	t.Run("close", func(t *testing.T) {
		ps := newOnes(8, time.Hour)
		for range 8 {
			ps.add(pending{id: new(cmID)})
		}
		ps.close()
		require.Equal(t, 8, count())
	})
}
