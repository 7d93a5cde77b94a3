// Package instant has points in time in little memory, for what a process keeps of each connection.
package instant

import "time"

// A Time is a time.Time of this process: nanoseconds after origin, by the monotonic clock, or 0 for
// the zero time.
type Time int64

var origin = time.Now()

// Of returns t in little memory. Times that are further away than 292 years are cut.
func Of(t time.Time) Time {
	if t.IsZero() {
		return 0
	}
	if i := Time(t.Sub(origin)); i != 0 {
		return i
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
