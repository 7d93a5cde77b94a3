// Package instant has points in time in little memory, for what a process keeps of each connection.
package instant

import (
	"math"
	"time"
)

// A Time is a time.Time of this process: nanoseconds after origin, by the monotonic clock, or 0 for
// the zero time.
type Time int64

var origin = time.Now()

// Of returns t in little memory. Times that are further away than 292 years are cut.
func Of(t time.Time) Time {
	if t.IsZero() {
		return 0
	}
	d := t.Sub(origin)
	if t == t.Round(0) {
		// It says nothing of the monotonic clock, and the other one may have been set since.
		now := time.Now()
		d = t.Sub(now)
		if past := now.Sub(origin); d <= math.MaxInt64-past {
			d += past
		}
	}
	if d != 0 {
		return Time(d)
	}
	return 1
}

// Time returns what Of was given.
func (t Time) Time() time.Time {
	if t == 0 {
		return time.Time{}
	}
	return origin.Add(time.Duration(t))
}

// Passed reports whether a deadline has passed. None, which is 0, never does.
func (t Time) Passed() bool { return t != 0 && time.Since(origin) >= time.Duration(t) }
