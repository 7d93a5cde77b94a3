package iwarp

import (
	"net"
	"sync/atomic"
	"time"

	"github.com/rdmanet/iwarp/internal/tcpinfo"
)

const (
	// shortSilence is how long a client may be silent where others have been silent.
	shortSilence = 20 * time.Millisecond
	// silentRun is how many clients must be silent before the wait for the next one is shorter.
	silentRun = 3
	// silentTrips covers a first segment that is lost on a path of 100 to 300 ms, and that the
	// client's kernel sends again after three round trips.
	silentTrips = 4
)

// longSilence is how long a client may be silent by default.
var longSilence = time.Second

// silence is how long the clients of a listener may be silent, which it learns from earlier ones.
type silence struct {
	long  time.Duration // for as long as nothing is learned
	fixed time.Duration // a setting, with which nothing is learned
	run   atomic.Int32  // silent clients since the last one of iWARP
}

func newSilence(setting time.Duration) *silence {
	return &silence{long: longSilence, fixed: max(0, setting)}
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
		return min(s.long, shortSilence+silentTrips*roundTripOf(c))
	}
	return s.long
}

// kept records a client that was silent for as long as it may be.
func (s *silence) kept() {
	if s.fixed == 0 {
		s.run.Add(1)
		processRun.Add(1)
	}
}

// broken records a client of iWARP, whether it was in time or not.
func (s *silence) broken() {
	iwarpSeen.Store(true)
	processRun.Store(0)
	s.run.Store(0)
}

// farTrip makes the wait half a second.
const farTrip = 120 * time.Millisecond

// roundTripOf returns the time to the client and back, or a long one where that is not known.
func roundTripOf(c *net.TCPConn) time.Duration {
	if info, ok := tcpinfo.Of(c); ok && info.RoundTrip > 0 {
		return info.RoundTrip
	}
	return farTrip
}
