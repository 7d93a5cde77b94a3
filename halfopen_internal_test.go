package iwarp

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestFairTime gives silent clients more time before one has to give way where those that have
// asked for iWARP lately were slow, up to a bound, and less again once they are quick.
func TestFairTime(t *testing.T) {
	var s halfOpenSet
	asks := func(after time.Duration) {
		s.silent++
		s.shaking(&halfOpen{c: new(net.TCPConn), since: time.Now().Add(-after), silent: true}, nil)
	}
	const atOnce = -time.Hour // however long the test takes
	require.Equal(t, fairTime, s.fair())
	asks(atOnce)
	require.Equal(t, fairTime, s.fair())
	asks(300 * time.Millisecond)
	s.slowAt = time.Now().Add(time.Hour) // nothing is forgotten meanwhile
	require.GreaterOrEqual(t, s.fair(), 600*time.Millisecond)
	asks(time.Minute)
	s.slowAt = time.Now().Add(time.Hour)
	require.Equal(t, mostFairTime, s.fair())
	for range 100 {
		asks(atOnce)
	}
	require.Equal(t, fairTime, s.fair())

	s.slowest, s.slowAt = 800*time.Millisecond, time.Now().Add(-2*slowHalf)
	require.LessOrEqual(t, s.fair(), 400*time.Millisecond, "half is forgotten twice")
	s.slowAt = time.Now().Add(-100 * slowHalf)
	require.Equal(t, fairTime, s.fair())
}
