package rdmanet

import (
	"time"

	"github.com/rdmanet/iwarp/rdmanet/internal/wire"
)

// Inbound is what we let the peer send, and have told it. It is not safe for concurrent use.
type inbound struct {
	arrived uint64 // messages that need a credit, in all
	limit   uint64 // how many the peer was told that it may send in all
	window  uint64 // how many it may have under way
	kept    uint64 // how many of them a plain peer that is one of ours leaves unused
	habit   habit  // whether it does

	ring    wire.SGE // length is the whole ring's
	space   space    // how much of it may be unread
	granted uint64   // bytes of stream that the peer was given space for
	older   uint64   // as far as it was given in the piece before the last
	read    uint64   // bytes of stream that no longer take space

	index   uint32 // entry of the peer's table that is written next
	entries uint32 // of that table
}

// start sets what was told when the connection was made: window messages and the first half of the
// space, or all of it.
func (i *inbound) start(ring wire.SGE, window uint64, entries uint32, wholeSpace bool) {
	i.ring, i.window, i.limit, i.entries = ring, window, window, entries
	i.kept = uint64(reserve(uint16(window))) // of what the peer is told first, however much it is told later
	if i.space.bytes == 0 {
		i.space.bytes = uint64(ring.Length)
	}
	i.granted, i.index = i.half(), 1
	if wholeSpace {
		i.granted, i.older, i.index = i.space.bytes, i.half(), 0
	}
}

// widen lets the peer have window messages under way from the next grant on.
func (i *inbound) widen(window uint64) { i.window = window }

// half returns the size of half the space.
func (i *inbound) half() uint64 { return i.space.bytes / 2 }

// spaceDue reports whether half the space can be given to the peer. It has no more than two pieces
// at a time, as its table has room for no more.
func (i *inbound) spaceDue() bool {
	return i.read >= i.older && i.granted-i.read+i.piece() <= i.space.bytes
}

// piece returns the length of the next piece of space, which does not reach beyond the end of the
// ring.
func (i *inbound) piece() uint64 {
	return min(i.half(), uint64(i.ring.Length)-i.granted%uint64(i.ring.Length))
}

// creditsDue reports whether one part in so many of the window can be given to the peer.
func (i *inbound) creditsDue(part uint64) bool {
	return i.arrived+i.window-i.limit >= max(i.window/part, 1)
}

// left returns how many messages the peer may still send by what it was told.
func (i *inbound) left() uint64 { return i.limit - i.arrived }

// message takes note of a message that needed a credit.
func (i *inbound) message() error {
	if i.arrived == i.limit {
		return wire.Violation("more messages than were allowed")
	}
	i.arrived++
	if i.left() < i.kept {
		i.habit = habitSpends
	}
	return nil
}

// silent reports whether no message has come yet.
func (i *inbound) silent() bool { return i.arrived == 0 }

// consumed takes note that n bytes of stream no longer take space.
func (i *inbound) consumed(n int) { i.read += uint64(n) }

// exhausted reports whether the peer has no message left that it would send.
func (i *inbound) exhausted() bool {
	return i.left() == 0 || i.habit == habitKeeps && i.left() <= i.kept
}

// watch reports whether the peer has as many messages left as one of ours leaves unused: it waits,
// or is about to use them. What it does shows soon, and settle is to be called then.
func (i *inbound) watch() bool {
	if i.habit != habitUnknown || i.kept == 0 || i.left() != i.kept {
		return false
	}
	i.habit = habitWatched
	return true
}

// settle ends what watch began. It reports whether the peer still has as many messages left, so
// that it is one of ours and waits for more.
func (i *inbound) settle() bool {
	if i.habit != habitWatched {
		return false
	}
	i.habit = habitUnknown
	if i.left() == i.kept {
		i.habit = habitKeeps
	}
	return i.habit == habitKeeps
}

// A habit is whether a plain peer uses all the messages that it may send, as the C library does, or
// leaves some unused, as one of ours does.
type habit uint8

const (
	habitUnknown habit = iota
	habitWatched       // it has as many left as one of ours leaves
	habitKeeps         // it is one of ours
	habitSpends        // it is none
)

// A grant is what the peer is told at one time.
type grant struct {
	space wire.SGE // of length 0 if there is only the limit to tell
	entry uint64   // offset of the entry for space in the peer's table
	limit uint16
}

// grant takes what can be given to the peer, by halves of the space.
func (i *inbound) grant(now time.Time) grant {
	i.limit = i.arrived + i.window
	g := grant{limit: uint16(i.limit)}
	if !i.spaceDue() {
		return g
	}
	if i.older > 0 { // and read
		i.space.adapt(now)
	}
	if !i.spaceDue() {
		return g // there is less of it
	}
	n := i.piece()
	g.space = wire.SGE{Addr: i.ring.Addr + i.granted%uint64(i.ring.Length), Key: i.ring.Key, Length: uint32(n)}
	g.entry = wire.SGELen * uint64(i.index)
	i.older = i.granted
	i.granted += n
	i.index = (i.index + 1) % i.entries
	return g
}
