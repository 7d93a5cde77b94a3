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
	*memory      // nil if bare
	bare    bool // the transport takes whole messages inline: there is no memory, and Writes drain
	inline  int  // bytes that a message can have without a place in the memory

	head, tail  uint64 // bytes added and sent since the start
	depth       uint64 // of the send queue
	used, freed uint64 // entries of the send queue taken and set free since the start
	asked       uint64 // used when a completion was last asked for
	owedBytes   uint64 // taken since

	size  uint64 // of the memory, or what stands for it
	moved uint64 // bytes added before it was that
	waits int    // for room in it
}

const (
	stageSize  = 256 << 10 // bytes in the end
	stageWaits = 4         // until then

	controlEntries = 16 // of the send queue, which data leaves free
	minSendDepth   = 2 * controlEntries
	minInline      = wire.IomapEntryLen
)

// newStage leaves the memory to be set, unless the stage is bare.
func newStage(a transport.Attributes) (stage, error) {
	if a.SendDepth < minSendDepth {
		return stage{}, pkgerrors.Errorf("send queue of %d is too short for a stream; use %d or more", a.SendDepth, minSendDepth)
	}
	if a.MaxInline >= maxChunk {
		return stage{bare: true, inline: math.MaxInt, depth: uint64(a.SendDepth), size: stageSize}, nil
	}
	if a.MaxInline < minInline {
		return stage{}, pkgerrors.Errorf("transport takes %d bytes inline; a stream needs %d", a.MaxInline, minInline)
	}
	return stage{inline: a.MaxInline, depth: uint64(a.SendDepth)}, nil
}

// entries returns how many entries of the send queue are free.
func (s *stage) entries() uint64 { return s.depth - min(s.used-s.freed, s.depth) }

// room returns how many bytes the next message can have, if it is not sent inline.
func (s *stage) room() int {
	free := s.size - (s.head - max(s.tail, s.moved))
	return int(min(free, s.size-s.head%s.size))
}

// use has what is added from now on lie in m. What was added before is still sent.
func (s *stage) use(m memory) { s.memory, s.size, s.moved = &m, uint64(len(m.b)), s.head }

// full reports whether a message of n bytes can be added once there is room for it.
func (s *stage) full(n int) bool {
	return !s.bare && n > s.inline && s.room() == 0 && s.entries() >= controlEntries+2
}

// ready reports whether a message with some of n bytes can be added.
func (s *stage) ready(n int) bool {
	return s.entries() >= controlEntries+2 && (n <= s.inline || s.room() > 0)
}

// controlReady reports whether a grant or another word may be sent. A few entries are kept for the
// words that end a stream.
func (s *stage) controlReady() bool { return s.entries() >= 6 }

// take takes n bytes, which must not be more than room.
func (s *stage) take(n int) []byte {
	p := s.b[s.head%s.size:][:n]
	s.head += uint64(n)
	return p
}

// posted records requests, and the bytes that were taken for them. It returns the ID and flags of
// the last one.
func (s *stage) posted(entries, bytes int) (id uint64, flags transport.Flags) {
	s.used += uint64(entries)
	s.owedBytes += uint64(bytes)
	if 4*(s.used-max(s.asked, s.freed)) < s.depth && 4*s.owedBytes < s.size {
		return 0, 0
	}
	s.asked, s.owedBytes = s.used, 0
	return s.used<<32 | s.head&math.MaxUint32, transport.Signaled
}

// sent frees what the completion with id stands for, unless that has been done.
func (s *stage) sent(id uint64) {
	advance(&s.freed, uint32(id>>32))
	advance(&s.tail, uint32(id))
}

// advance moves n forward to the number whose lower half is to.
func advance(n *uint64, to uint32) {
	if step := to - uint32(*n); step <= math.MaxInt32 {
		*n += uint64(step)
	}
}

// drained frees the first entries that were posted.
func (s *stage) drained(entries uint64) { s.freed = max(s.freed, entries) }
