package rdmanet

import (
	"math"

	pkgerrors "github.com/pkg/errors"

	"github.com/rdmanet/iwarp/rdmanet/internal/wire"
	"github.com/rdmanet/iwarp/transport"
)

// A stage is the account of the send queue, and registered memory from which data is sent where the
// transport takes only little of it inline. Writes return once their data is in it, as with a
// socket's buffer. It is guarded by Conn.mu.
//
// It begins with little memory, and moves on to more once Writes have often had to wait for room.
//
// The account makes sure that a request never finds the queue full, which could last as long as the
// peer likes. Completions cost time, so only one is requested for each quarter of the bytes or of
// the entries. Its ID says what it sets free: its own request and all before it.
type stage struct {
	*stageRing // nil if bare

	// Entries of the send queue: how many there are; how many were, since the start, set free, taken
	// when a completion was last asked for or all had become free, and taken. The latter three wrap.
	depth              uint32
	freed, asked, used uint32
}

// A stageRing is the memory of a stage, and what is in it.
type stageRing struct {
	memory
	inline     int    // bytes that a message can have without a place in the memory
	head, tail uint64 // bytes added and sent since the start
	owed       uint64 // added since a completion was last asked for
	size       uint64 // of the memory
	moved      uint64 // bytes added before it was that
	waits      int    // for room in it
}

const (
	stageSize  = 256 << 10 // bytes in the end
	stageWaits = 4         // until then

	controlEntries = 16 // of the send queue, which data leaves free
	minSendDepth   = 2 * controlEntries
	minInline      = wire.IomapEntryLen
)

// bare reports whether the transport takes whole messages inline: there is no memory, and Writes
// drain.
func (s *stage) bare() bool { return s.stageRing == nil }

// newStage leaves the memory to be set, unless the stage is bare.
func newStage(a transport.Attributes) (stage, error) {
	if a.SendDepth < minSendDepth {
		return stage{}, pkgerrors.Errorf("send queue of %d is too short for a stream; use %d or more", a.SendDepth, minSendDepth)
	}
	if a.MaxInline >= maxChunk {
		return stage{depth: uint32(a.SendDepth)}, nil
	}
	if a.MaxInline < minInline {
		return stage{}, pkgerrors.Errorf("transport takes %d bytes inline; a stream needs %d", a.MaxInline, minInline)
	}
	return stage{stageRing: &stageRing{inline: a.MaxInline}, depth: uint32(a.SendDepth)}, nil
}

// entries returns how many entries of the send queue are free.
func (s *stage) entries() uint32 { return s.depth - min(s.used-s.freed, s.depth) }

// room returns how many bytes the next message can have, if it is not sent inline.
func (s *stageRing) room() int {
	free := s.size - (s.head - max(s.tail, s.moved))
	return int(min(free, s.size-s.head%s.size))
}

// use has what is added from now on lie in m. What was added before is still sent.
func (s *stageRing) use(m memory) { s.memory, s.size, s.moved = m, uint64(len(m.b)), s.head }

// inlines reports whether a message of n bytes needs no place in the memory.
func (s *stage) inlines(n int) bool { return s.bare() || n <= s.inline }

// full reports whether a message of n bytes can be added once there is room for it.
func (s *stage) full(n int) bool {
	return !s.inlines(n) && s.room() == 0 && s.entries() >= controlEntries+2
}

// ready reports whether a message with some of n bytes can be added.
func (s *stage) ready(n int) bool {
	return s.entries() >= controlEntries+2 && (s.inlines(n) || s.room() > 0)
}

// controlReady reports whether a grant or another word may be sent. A few entries are kept for the
// words that end a stream.
func (s *stage) controlReady() bool { return s.entries() >= 6 }

// take takes n bytes, which must not be more than room.
func (s *stageRing) take(n int) []byte {
	p := s.b[s.head%s.size:][:n]
	s.head += uint64(n)
	return p
}

// posted records requests, and the bytes that were taken for them. It returns the ID and flags of
// the last one.
func (s *stage) posted(entries, bytes int) (id uint64, flags transport.Flags) {
	s.used += uint32(entries)
	ask := 4*(s.used-s.asked) >= s.depth
	if r := s.stageRing; r != nil {
		r.owed += uint64(bytes)
		if ask = ask || 4*r.owed >= r.size; ask {
			id, r.owed = r.head&math.MaxUint32, 0
		}
	}
	if !ask {
		return 0, 0
	}
	s.asked = s.used
	return uint64(s.used)<<32 | id, transport.Signaled
}

// sent frees what the completion with id stands for, unless that has been done.
func (s *stage) sent(id uint64) {
	s.free(uint32(id >> 32))
	if r := s.stageRing; r != nil {
		if step := uint32(id) - uint32(r.tail); step <= math.MaxInt32 {
			r.tail += uint64(step)
		}
	}
}

// free frees the entries that were taken when used was that, unless that has been done.
func (s *stage) free(used uint32) {
	if used-s.freed <= math.MaxInt32 {
		s.freed = used
	}
	if s.used-s.asked > s.used-s.freed {
		s.asked = s.freed
	}
}
