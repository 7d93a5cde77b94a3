//go:build unix

package soft

import (
	"runtime"
	"sync/atomic"
	"time"

	"github.com/rdmanet/iwarp/internal/instant"
)

// lookers counts the calls of the process that look for bytes at present, and mostLookers is how
// many may: with more, there is other work for the processors.
var lookers, mostLookers atomic.Int32

func init() { mostLookers.Store(int32(runtime.GOMAXPROCS(0) / 2)) }

// looksOn reports whether to try again before the call sleeps: end is until when, and 0 before the
// first time. endLook must follow.
func (q *queuePair) looksOn(end *instant.Time) bool {
	deadline := &q.sock.rd
	if *end != 0 {
		return !end.Passed() && !deadline.kicked()
	}
	if lookers.Add(1) > mostLookers.Load() {
		lookers.Add(-1)
		return false
	}
	*end = instant.Of(time.Now().Add(q.cfg.Poll))
	if at := instant.Time(deadline.at.Load()); at != 0 && at < *end {
		*end = at
	}
	return true
}

func endLook(end instant.Time) {
	if end != 0 {
		lookers.Add(-1)
	}
}
