package flow

import (
	"time"

	"github.com/rdmanet/iwarp/internal/instant"
)

const (
	firstSpace = 512 << 10 // bytes that a connection begins with; the peer has half of them at any time
	leastSpace = 16 << 10  // and goes down to

	quickReader = 500 * time.Millisecond // for half the space: it grows
	slowReader  = 5 * time.Second        // it shrinks

	busyReader = 250 * time.Millisecond // for half the space, busyHalves times in a row: more memory is worth having
	busyHalves = 4
)

// A Space is how much of a ring may be given to the peer and not yet read. It follows the pace of
// the reader, within a budget.
type Space struct {
	budget      *Budget // nil if all of the ring is memory anyway
	bytes, most uint32
	since       instant.Time // when half of it was last given
	busy        int32        // halves that a busy reader has read in a row
}

// Open sets what a connection begins with: up to most bytes.
func (s *Space) Open(b *Budget, most uint32, now time.Time) {
	s.budget, s.most, s.since = b, most, instant.Of(now)
	least := min(most, leastSpace)
	for s.bytes = min(most, firstSpace); !b.take(uint64(s.bytes)); s.bytes = max(s.bytes/2, least) {
		if s.bytes == least {
			b.sum.Add(uint64(least))
			return
		}
	}
}

// Fix sets a size that does not change.
func (s *Space) Fix(bytes uint32) { s.bytes, s.busy = bytes, 0 }

// Busy reports whether a fixed space is read so fast that it may be too small.
func (s *Space) Busy() bool { return s.busy >= busyHalves }

// Patient reports whether the reader has yet to be busy for what Bear was told.
func (s *Space) Patient() bool { return s.busy < 0 }

// Bear has Busy be false until the reader has been busy for so many halves more.
func (s *Space) Bear(halves int) { s.busy = -int32(halves) }

// adapt follows the reader, which has read half of the space by now.
func (s *Space) adapt(now time.Time) {
	took := now.Sub(s.since.Time())
	s.since = instant.Of(now)
	switch {
	case s.budget == nil && took < busyReader:
		s.busy++
	case s.budget == nil:
		s.busy = min(s.busy, 0)
	case s.budget.over():
		s.shrink(leastSpace)
	case took < quickReader && s.bytes < s.most:
		if more := min(s.bytes, s.most-s.bytes); s.budget.take(uint64(more)) {
			s.bytes += more
		}
	case took > slowReader:
		s.shrink(firstSpace)
	}
}

// shrink halves the space, down to least.
func (s *Space) shrink(least uint32) {
	if less := min(s.bytes/2, s.bytes-min(s.bytes, least)); less > 0 {
		s.budget.give(uint64(less))
		s.bytes -= less
	}
}

// Close gives everything back.
func (s *Space) Close() {
	if s.budget != nil {
		s.budget.give(uint64(s.bytes))
		s.budget, s.bytes = nil, 0
	}
}
