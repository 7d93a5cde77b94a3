package rdmanet

// Inbound is what we let the peer send, and have told it. It is not safe for concurrent use.
type inbound struct {
	arrived uint64 // messages that need a credit, in all
	limit   uint64 // how many the peer was told that it may send in all
	window  uint64 // how many it may have under way
	kept    uint64 // how many of them a plain peer that is one of ours leaves unused; 0 once the peer has turned out to be none
	keeps   bool   // it has turned out to be one
	asked   bool   // whether it is one will show soon

	ring    sge    // length is the whole ring's
	granted uint64 // bytes of stream that the peer was given space for
	read    uint64 // bytes of stream that no longer take space

	index   uint32 // entry of the peer's table that is written next
	entries uint32 // of that table
}

// start sets what was told when the connection was made: window messages and the first half of the ring, or all of it.
func (i *inbound) start(ring sge, window uint64, entries uint32, wholeRing bool) {
	i.ring, i.window, i.limit, i.entries = ring, window, window, entries
	i.kept = uint64(reserve(uint16(window))) // of what the peer is told first, however much it is told later
	i.granted, i.index = uint64(ring.length)/2, 1
	if wholeRing {
		i.granted, i.index = uint64(ring.length), 0
	}
}

func (i *inbound) half() uint64 { return uint64(i.ring.length) / 2 }

// spaceDue reports whether half the ring can be given to the peer.
func (i *inbound) spaceDue() bool { return uint64(i.ring.length)-(i.granted-i.read) >= i.half() }

// creditsDue reports whether one part in so many of the window can be given to the peer.
func (i *inbound) creditsDue(part uint64) bool {
	return i.arrived+i.window-i.limit >= max(i.window/part, 1)
}

// left returns how many messages the peer may still send by what it was told.
func (i *inbound) left() uint64 { return i.limit - i.arrived }

// message takes note of a message that needed a credit.
func (i *inbound) message() error {
	if i.arrived == i.limit {
		return &protocolError{"more messages than were allowed"}
	}
	i.arrived++
	if i.left() < i.kept {
		i.kept = 0
	}
	return nil
}

// exhausted reports whether the peer has no message left that it would send.
func (i *inbound) exhausted() bool {
	return i.left() == 0 || i.keeps && i.left() <= i.kept
}

// mayKeep reports whether the peer has as many messages left as one of ours leaves unused: it waits, or is about to use them.
func (i *inbound) mayKeep() bool { return !i.keeps && i.kept > 0 && i.left() == i.kept }

// A grant is what the peer is told at one time.
type grant struct {
	space sge    // of length 0 if there is only the limit to tell
	entry uint64 // offset of the entry for space in the peer's table
	limit uint16
}

// grant takes what can be given to the peer, by halves of the ring.
func (i *inbound) grant() grant {
	i.limit = i.arrived + i.window
	g := grant{limit: uint16(i.limit)}
	if !i.spaceDue() {
		return g
	}
	g.space = i.ring
	g.space.length /= 2
	g.space.addr += i.granted % uint64(i.ring.length)
	g.entry = sgeLen * uint64(i.index)
	i.granted += i.half()
	i.index = (i.index + 1) % i.entries
	return g
}
