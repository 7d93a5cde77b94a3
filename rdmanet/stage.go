package rdmanet

import (
	"github.com/pkg/errors"

	"github.com/rdmanet/iwarp/transport"
)

// A stage is registered memory from which data is sent, for a transport that takes only little of it inline. Writes return
// when their data is there, as they do with a socket's buffer. It is guarded by Conn.mu.
//
// Each message ends with a signaled Send, whose ID tells what its completion sets free.
type stage struct {
	mem    []byte
	region transport.MemoryRegion

	head, tail uint64 // bytes added and sent since the start
	entries    int    // of the send queue, free for data
	controls   int    // of the send queue, free for words without data
}

const (
	stageSize = 256 << 10

	controlEntries = 16
	minSendDepth   = 2 * controlEntries
	minInline      = sgeLen

	controlID = 1 << 63
)

// newStage returns nil if qp takes whole messages inline.
func newStage(qp transport.QueuePair, a transport.Attributes) (*stage, error) {
	if a.SendDepth < minSendDepth {
		return nil, errors.Errorf("send queue of %d is too short for a stream; use %d or more", a.SendDepth, minSendDepth)
	}
	if a.MaxInline >= max(plainChunk, extendedChunk) {
		return nil, nil
	}
	if a.MaxInline < minInline {
		return nil, errors.Errorf("transport takes %d bytes inline; a stream needs %d", a.MaxInline, minInline)
	}
	s := &stage{mem: make([]byte, stageSize), entries: a.SendDepth - controlEntries, controls: controlEntries}
	var err error
	s.region, err = qp.RegisterMemory(s.mem, 0)
	return s, errors.Wrap(err, "register send buffer")
}

// room returns how many bytes the next message can have.
func (s *stage) room() int {
	if s.entries < 2 {
		return 0
	}
	free := stageSize - (s.head - s.tail)
	return int(min(free, stageSize-s.head%stageSize))
}

// add takes over data, which must not be longer than room. It returns where data is now, and the ID for the message's Send.
func (s *stage) add(data []byte) (p []byte, id uint64) {
	p = s.mem[s.head%stageSize:][:len(data)]
	copy(p, data)
	s.head += uint64(len(data))
	s.entries -= 2
	return p, uint64(len(data))
}

// controlReady reports whether a grant may be sent. A few entries are kept for the words that end a stream.
func (s *stage) controlReady() bool { return s.controls >= 4 }

// control takes n entries for words without data and returns the ID for the last one. A nil stage counts nothing.
func (s *stage) control(n int) uint64 {
	if s == nil {
		return 0
	}
	s.controls -= n
	return controlID | uint64(n)
}

// sent sets free what the completion with id stands for.
func (s *stage) sent(id uint64) {
	if id&controlID != 0 {
		s.controls += int(id &^ controlID)
		return
	}
	s.tail += id
	s.entries += 2
}
