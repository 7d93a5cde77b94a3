package iwarp

import (
	"net"
	"sync/atomic"
	"time"

	"github.com/rdmanet/iwarp/internal/tcpinfo"
)

const (
	// longSilence is how long a client may be silent by default, shortSilence where others were.
	longSilence  = time.Second
	shortSilence = 20 * time.Millisecond
	// silentRun is how many clients have to be silent before the next one is waited for less.
	silentRun = 3
	// silentTrips covers a first segment that is lost on a path of 100 to 300 ms, and sent again by
	// the kernel of the client after three of them.
	silentTrips = 4
)

// silence is how long the clients of a listener may be silent, which it learns from those before.
type silence struct {
	fixed time.Duration // a setting, beside which nothing is learned
	run   atomic.Int32  // silent clients since the last one of iWARP
}

// What the listeners of the process have learned together, which is of use while none has a client
// of iWARP.
var (
	iwarpSeen  atomic.Bool
	processRun atomic.Int32
)

// patience returns how long c may be silent. An MPA request comes right after the last segment of
// the TCP handshake, unless it is lost.
func (s *silence) patience(c *net.TCPConn) time.Duration {
	switch {
	case s.fixed > 0:
		return s.fixed
	case s.run.Load() >= silentRun, processRun.Load() >= silentRun && !iwarpSeen.Load():
		return min(longSilence, shortSilence+silentTrips*roundTripOf(c))
	}
	return longSilence
}

// kept notes a client that was silent for as long as it may be.
func (s *silence) kept() {
	if s.fixed == 0 {
		s.run.Add(1)
		processRun.Add(1)
	}
}

// broken notes a client of iWARP, whether it was in time or not.
func (s *silence) broken() {
	iwarpSeen.Store(true)
	processRun.Store(0)
	s.run.Store(0)
}

// farTrip has half of a second waited.
const farTrip = 120 * time.Millisecond

// roundTripOf returns the time to the client and back, or a long one where that is not known.
func roundTripOf(c *net.TCPConn) time.Duration {
	if info, ok := tcpinfo.Of(c); ok && info.RoundTrip > 0 {
		return info.RoundTrip
	}
	return farTrip
}
