package flow

import "time"

const (
	firstSpace = 512 << 10 // bytes that a connection begins with; the peer has half of them at any time
	leastSpace = 16 << 10  // and goes down to

	quickReader = 500 * time.Millisecond // for half the space: it grows
	slowReader  = 5 * time.Second        // it shrinks
)

// A Space is how much of a ring may be given to the peer and not yet read. It follows the pace of
// the reader, within a budget.
type Space struct {
	budget      *Budget // nil if all of the ring is memory anyway
	bytes, most uint64
	since       time.Time // when half of it was last given
}

// Open sets what a connection begins with: up to most bytes.
func (s *Space) Open(b *Budget, most uint64, now time.Time) {
	s.budget, s.most, s.since = b, most, now
	least := min(most, leastSpace)
	for s.bytes = min(most, firstSpace); !b.take(s.bytes); s.bytes = max(s.bytes/2, least) {
		if s.bytes == least {
			b.sum.Add(least)
			return
		}
	}
}

// Fix sets a size that does not change.
func (s *Space) Fix(bytes uint64) { s.bytes = bytes }

// adapt follows the reader, which has read half of the space by now.
func (s *Space) adapt(now time.Time) {
	if s.budget == nil {
		return
	}
	took := now.Sub(s.since)
	s.since = now
	switch {
	case s.budget.over():
		s.shrink(leastSpace)
	case took < quickReader && s.bytes < s.most:
		if more := min(s.bytes, s.most-s.bytes); s.budget.take(more) {
			s.bytes += more
		}
	case took > slowReader:
		s.shrink(firstSpace)
	}
}

// shrink halves the space, down to least.
func (s *Space) shrink(least uint64) {
	if less := min(s.bytes/2, s.bytes-min(s.bytes, least)); less > 0 {
		s.budget.give(less)
		s.bytes -= less
	}
}

// Close gives everything back.
func (s *Space) Close() {
	if s.budget != nil {
		s.budget.give(s.bytes)
		s.budget, s.bytes = nil, 0
	}
}
