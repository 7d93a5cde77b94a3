package rdmanet

import (
	"github.com/pkg/errors"

	"github.com/rdmanet/iwarp/transport"
)

// A stage is registered memory from which data is sent, for a transport that takes only little of it inline, and the account of
// its send queue. Writes return when their data is there, as they do with a socket's buffer. It is guarded by Conn.mu.
//
// Completions cost time, so only one is asked for with each quarter of the bytes or of the entries. Its ID tells what it sets free:
// its own request, and those before it that were not signaled.
type stage struct {
	memory
	inline int // bytes that a message can have without a place in the memory

	head, tail uint64 // bytes added and sent since the start
	depth      int    // of the send queue
	entries    int    // of the send queue, free

	owedEntries int // of requests since the last one that was signaled
	owedBytes   uint64
}

const (
	stageSize = 256 << 10

	controlEntries = 16 // of the send queue, which data leaves free
	minSendDepth   = 2 * controlEntries
	minInline      = iomapEntryLen
)

// newStage returns nil if the transport takes whole messages inline. The memory is left to be set.
func newStage(a transport.Attributes) (*stage, error) {
	if a.SendDepth < minSendDepth {
		return nil, errors.Errorf("send queue of %d is too short for a stream; use %d or more", a.SendDepth, minSendDepth)
	}
	if a.MaxInline >= maxChunk {
		return nil, nil
	}
	if a.MaxInline < minInline {
		return nil, errors.Errorf("transport takes %d bytes inline; a stream needs %d", a.MaxInline, minInline)
	}
	return &stage{inline: a.MaxInline, depth: a.SendDepth, entries: a.SendDepth}, nil
}

// room returns how many bytes the next message can have, if it is not sent inline.
func (s *stage) room() int {
	free := stageSize - (s.head - s.tail)
	return int(min(free, stageSize-s.head%stageSize))
}

// ready reports whether a message with some of n bytes can be added.
func (s *stage) ready(n int) bool {
	return s.entries >= controlEntries+2 && (n <= s.inline || s.room() > 0)
}

// controlReady reports whether a grant, or another word, may be sent. A few entries are kept for the words that end a stream.
func (s *stage) controlReady() bool { return s == nil || s.entries >= 6 }

// take takes n bytes, which must not be more than room.
func (s *stage) take(n int) []byte {
	p := s.b[s.head%stageSize:][:n]
	s.head += uint64(n)
	return p
}

// posted takes note of requests, and of the bytes that were taken for them. It returns ID and flags of the last one. A nil stage
// counts nothing.
func (s *stage) posted(entries, bytes int) (id uint64, flags transport.Flags) {
	if s == nil {
		return 0, 0
	}
	s.entries -= entries
	s.owedEntries += entries
	s.owedBytes += uint64(bytes)
	if 4*s.owedEntries < s.depth && 4*s.owedBytes < stageSize {
		return 0, 0
	}
	id = uint64(s.owedEntries)<<32 | s.owedBytes
	s.owedEntries, s.owedBytes = 0, 0
	return id, transport.Signaled
}

// sent sets free what the completion with id stands for.
func (s *stage) sent(id uint64) {
	s.tail += id & (1<<32 - 1)
	s.entries += int(id >> 32)
}
