package flow

import (
	"time"

	"github.com/rdmanet/iwarp/rdmanet/internal/wire"
)

// Inbound is what we let the peer send and have told it so. It is not safe for concurrent use.
type Inbound struct {
	arrived uint32 // messages that need a credit, in all; this and limit wrap
	limit   uint32 // how many the peer was told it may send in all
	window  uint32 // how many it may have under way
	kept    uint16 // how many of them a plain peer that is one of ours leaves unused
	habit   habit  // whether it does
	heard   bool   // a message has come

	Ring    wire.SGE // Length is the whole ring's
	move    *move    // how Ring became that, if it was another before
	Space   Space    // how much of it may be unread
	granted uint64   // bytes of stream that the peer was given space for
	older   uint64   // how far that went with the piece before the last
	read    uint64   // bytes of stream that no longer take space

	index   uint32 // entry of the peer's table that is written next
	entries uint32 // of that table
}

// A move is the way of a stream from one ring to the next.
type move struct {
	granted uint64 // bytes of stream that were granted before
	used    uint64 // how far the peer had used them by then
}

// before returns the numbers of the move, 0 if there was none.
func (i *Inbound) before() move {
	if i.move == nil {
		return move{}
	}
	return *i.move
}

// Start sets what the peer was told when the connection was made: window messages and the first
// half of the space, or all of it.
func (i *Inbound) Start(ring wire.SGE, window, entries uint32, wholeSpace bool) {
	i.Ring, i.window, i.limit, i.entries = ring, window, window, entries
	i.kept = reserve(uint16(window)) // of what the peer is told first, whatever it is told later
	if i.Space.bytes == 0 {
		i.Space.bytes = ring.Length
	}
	i.granted, i.index = i.Half(), 1
	if wholeSpace {
		i.granted, i.older, i.index = uint64(i.Space.bytes), i.Half(), 0
	}
}

// Widen lets the peer have window messages under way from the next grant on.
func (i *Inbound) Widen(window uint32) { i.window = window }

// Move has the space that is given from now on lie in ring, which is as large as the space. used
// is how many bytes of stream the peer has announced.
func (i *Inbound) Move(ring wire.SGE, used uint64) {
	i.Ring, i.move = ring, &move{i.granted, used}
	i.Space.Fix(ring.Length)
}

// Half returns the size of half the space.
func (i *Inbound) Half() uint64 { return uint64(i.Space.bytes / 2) }

// SpaceDue reports whether half the space can be given to the peer. The peer has at most two pieces
// at a time, as its table has room for no more.
func (i *Inbound) SpaceDue() bool {
	m := i.before()
	return max(i.read, m.used) >= i.older && i.granted-max(i.read, m.granted)+i.piece() <= uint64(i.Space.bytes)
}

// SpaceUrgent reports whether the peer has used a good part of the space that it was given last,
// arrived being how many bytes have come in all, read or not.
func (i *Inbound) SpaceUrgent(arrived uint64) bool { return i.granted-arrived <= i.Half()-i.Half()/4 }

// piece returns the length of the next piece of space, which does not reach beyond the end of the
// ring. The first after a move is the rest of a half.
func (i *Inbound) piece() uint64 {
	n, at := i.Half(), i.at()
	if i.move != nil {
		n -= at % n
	}
	return min(n, uint64(i.Ring.Length)-at)
}

// at returns where in the ring the next piece begins.
func (i *Inbound) at() uint64 { return i.granted % uint64(i.Ring.Length) }

// CreditsDue reports whether 1/part of the window can be given to the peer.
func (i *Inbound) CreditsDue(part uint32) bool {
	return i.arrived+i.window-i.limit >= max(i.window/part, 1)
}

// left returns how many messages the peer may still send by what it has been told.
func (i *Inbound) left() uint32 { return i.limit - i.arrived }

// Message records a message that needed a credit.
func (i *Inbound) Message() error {
	if i.arrived == i.limit {
		return wire.Violation("more messages than were allowed")
	}
	i.arrived++
	i.heard = true
	if i.left() < uint32(i.kept) {
		i.habit = habitSpends
	}
	return nil
}

// Silent reports whether no message has come yet.
func (i *Inbound) Silent() bool { return !i.heard }

// Consumed records that n bytes of stream no longer take space.
func (i *Inbound) Consumed(n int) { i.read += uint64(n) }

// Exhausted reports whether the peer has no message left that it would send.
func (i *Inbound) Exhausted() bool {
	return i.left() == 0 || i.habit == habitKeeps && i.left() <= uint32(i.kept)
}

// Watch reports whether the peer has as many messages left as one of ours leaves unused: it waits,
// or is about to use them. Which of the two shows soon, and Settle must be called then.
func (i *Inbound) Watch() bool {
	if i.habit != habitUnknown || i.kept == 0 || i.left() != uint32(i.kept) {
		return false
	}
	i.habit = habitWatched
	return true
}

// Settle ends what Watch began. It reports whether the peer still has as many messages left, so
// that it is one of ours and waits for more.
func (i *Inbound) Settle() bool {
	if i.habit != habitWatched {
		return false
	}
	i.habit = habitUnknown
	if i.left() == uint32(i.kept) {
		i.habit = habitKeeps
	}
	return i.habit == habitKeeps
}

// A habit says whether a plain peer uses all the messages that it may send, as the C library does,
// or leaves some unused, as ours do.
type habit uint8

const (
	habitUnknown habit = iota
	habitWatched       // it has as many left as one of ours leaves
	habitKeeps         // it is one of ours
	habitSpends        // it is not
)

// A Grant is what the peer is told at one time.
type Grant struct {
	Space wire.SGE // of Length 0 if there is only the limit to tell
	Entry uint64   // offset of the entry for space in the peer's table
	Limit uint16
}

// Grant returns and records what can be given to the peer, in halves of the space.
func (i *Inbound) Grant(now time.Time) Grant {
	i.limit = i.arrived + i.window
	g := Grant{Limit: uint16(i.limit)}
	if !i.SpaceDue() {
		return g
	}
	if i.older > 0 { // and read
		i.Space.adapt(now)
	}
	if !i.SpaceDue() {
		return g // there is less of it
	}
	n := i.piece()
	g.Space = wire.SGE{Addr: i.Ring.Addr + i.at(), Key: i.Ring.Key, Length: uint32(n)}
	g.Entry = wire.SGELen * uint64(i.index)
	i.older = i.granted
	i.granted += n
	i.index = (i.index + 1) % i.entries
	return g
}
