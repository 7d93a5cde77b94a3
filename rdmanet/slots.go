package rdmanet

import (
	"sync"

	pkgerrors "github.com/pkg/errors"

	"github.com/rdmanet/iwarp/rdmanet/internal/wire"
	"github.com/rdmanet/iwarp/transport"
)

// Receives beyond the messages that the peer may send: for words that need no credit, and for those
// that wait to be posted again.
const (
	controlSlots = 16
	minRepost    = 16
)

// slots are the receives, with memory for one word each. They are posted again in rows: a row is
// cheap to post and to hold.
//
// Unless their number was asked for, a connection starts with few of them, and gets the rest when
// it turns out to carry many small messages.
type slots struct {
	slabs  *[2]memory // of the receives posted at the start, and of those posted since; nil without memory
	start  uint32     // number of the former
	window uint32     // messages that may be under way with what is posted
	most   uint32     // the same once grown

	first, count uint32 // IDs that wait to be posted again, of which repostBatch says how many may

	bare  bool // words come as immediate data, or in completions, so receives need no memory
	words bool // they come in completions
}

const startWindow = 128

func slotsFor(window uint32) uint32 { return window + controlSlots + repostBatch(window) }

func repostBatch(window uint32) uint32 { return max(minRepost, window/8) }

// plan settles the number of slots: those for start messages at first, and those for window
// messages in the end, as far as the receive queue's depth allows.
func (s *slots) plan(start, window, depth int) error {
	most := uint32(max(window, 1))
	for int(slotsFor(most)) > depth {
		if most /= 2; most == 0 {
			return pkgerrors.Errorf("receive queue of %d is too short for a stream; use 64 or more", depth)
		}
	}
	// Between two powers of two there may be more that fit.
	for step := most; step > 0; step /= 2 {
		if int(most+step) <= window && int(slotsFor(most+step)) <= depth {
			most += step
		}
	}
	s.most, s.window = most, min(most, uint32(start))
	s.start = slotsFor(s.window)
	return nil
}

// size returns how many bytes of memory all slots take.
func (s *slots) size() int {
	if s.bare {
		return 0
	}
	return wire.WordLen * int(slotsFor(s.most))
}

// use gives s memory of its size. Without it, s gets its own when it posts.
func (s *slots) use(m memory) {
	if s.bare {
		return
	}
	n := wire.WordLen * int(s.start)
	s.slabs = &[2]memory{m.part(0, n), m.part(n, s.size())}
}

// open posts the slots of the start.
func (s *slots) open(qp transport.QueuePair) error { return s.add(qp, 0, 0, s.start) }

// grow posts the remaining slots. It reports whether the window is larger now.
func (s *slots) grow(qp transport.QueuePair) bool {
	if s.window == s.most {
		return false
	}
	if s.add(qp, 1, s.start, slotsFor(s.most)-s.start) != nil {
		s.most = s.window
		return false
	}
	s.window = s.most
	return true
}

// add posts n slots with IDs from id on, and provides their memory.
func (s *slots) add(qp transport.QueuePair, slab int, id, n uint32) (err error) {
	if !s.bare && s.slabs == nil {
		s.slabs = new([2]memory)
	}
	if !s.bare && s.slabs[slab].region == nil {
		s.slabs[slab], err = allocate(qp, int(n)*wire.WordLen, transport.LocalWrite)
		if err != nil {
			return pkgerrors.Wrap(err, "register receive slots")
		}
	}
	return s.post(qp, id, n)
}

// slot returns the memory of a receive.
func (s *slots) slot(id uint32) ([]byte, transport.MemoryRegion) {
	if s.bare {
		return nil, nil
	}
	slab := &s.slabs[0]
	if id >= s.start {
		slab, id = &s.slabs[1], id-s.start
	}
	return slab.b[int(id)*wire.WordLen:][:wire.WordLen], slab.region
}

type recvBatch [64]transport.RecvWR

var recvBatches = sync.Pool{New: func() any { return new(recvBatch) }}

// post posts n receives with IDs from id on.
func (s *slots) post(qp transport.QueuePair, id, n uint32) error {
	if s.words {
		w, _ := transport.As[transport.WordReceiver](qp)
		_, err := w.PostWords(uint64(id), int(n))
		return pkgerrors.Wrap(err, "post receives")
	}
	b := recvBatches.Get().(*recvBatch)
	defer recvBatches.Put(b)
	for n > 0 {
		k := min(n, uint32(len(b)))
		for i := range k {
			mem, region := s.slot(id + i)
			b[i] = transport.RecvWR{ID: uint64(id + i), Data: mem, Region: region}
		}
		_, err := qp.PostRecv(b[:k])
		clear(b[:k])
		if err != nil {
			return pkgerrors.Wrap(err, "post receives")
		}
		id, n = id+k, n-k
	}
	return nil
}

// used records that a receive has been used and can be posted again.
func (s *slots) used(qp transport.QueuePair, id uint32) error {
	if s.count > 0 && id != s.first+s.count || s.count == repostBatch(s.window) {
		if err := s.repost(qp); err != nil {
			return err
		}
	}
	if s.count == 0 {
		s.first = id
	}
	s.count++
	return nil
}

// repost posts what was used.
func (s *slots) repost(qp transport.QueuePair) error {
	n := s.count
	s.count = 0
	return s.post(qp, s.first, n)
}
