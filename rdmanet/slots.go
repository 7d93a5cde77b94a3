package rdmanet

import (
	"sync"

	"github.com/pkg/errors"

	"github.com/rdmanet/iwarp/transport"
)

// Receives beyond the messages that the peer may send: for words that need no credit, and for those that wait to be posted
// again.
const (
	controlSlots = 16
	minRepost    = 16
)

// Slots are the receive buffers, one word each. They are posted again in rows: a row is cheap to post and to hold.
//
// Unless their number was asked for, a connection starts with few of them, and gets the rest when it turns out to carry many
// small messages.
type slots struct {
	slabs  [2][]byte
	region [2]transport.MemoryRegion
	window uint64 // messages that may be under way with what is posted
	most   uint64 // the same once grown

	first, count uint64 // IDs that wait to be posted again
	batch        uint64 // how many may
}

const startWindow = 128

func slotsFor(window uint64) uint64 { return window + controlSlots + repostBatch(window) }

func repostBatch(window uint64) uint64 { return max(minRepost, window/8) }

// init registers and posts the slots for the first start messages of window, as far as the receive queue's depth allows.
func (s *slots) init(qp transport.QueuePair, start, window, depth int) error {
	most := uint64(max(window, 1))
	for slotsFor(most) > uint64(depth) {
		if most /= 2; most == 0 {
			return errors.Errorf("receive queue of %d is too short for a stream; use 64 or more", depth)
		}
	}
	// Between two powers of two there may be more that fit.
	for step := most; step > 0; step /= 2 {
		if most+step <= uint64(window) && slotsFor(most+step) <= uint64(depth) {
			most += step
		}
	}
	s.most, s.window = most, min(most, uint64(start))
	s.batch = repostBatch(s.window)
	return s.add(qp, 0, slotsFor(s.window))
}

// grow posts the remaining slots. It reports whether the window is larger now.
func (s *slots) grow(qp transport.QueuePair) bool {
	if s.window == s.most {
		return false
	}
	have := uint64(len(s.slabs[0]) / wordLen)
	if s.add(qp, 1, slotsFor(s.most)-have) != nil {
		s.most = s.window
		return false
	}
	s.window = s.most
	s.batch = repostBatch(s.window)
	return true
}

func (s *slots) add(qp transport.QueuePair, slab int, n uint64) error {
	mem := make([]byte, n*wordLen)
	region, err := qp.RegisterMemory(mem, transport.LocalWrite)
	if err != nil {
		return errors.Wrap(err, "register receive slots")
	}
	s.slabs[slab], s.region[slab] = mem, region
	id := uint64(0)
	if slab == 1 {
		id = uint64(len(s.slabs[0]) / wordLen)
	}
	return s.post(qp, id, n)
}

// slot returns the memory of a receive.
func (s *slots) slot(id uint64) ([]byte, transport.MemoryRegion) {
	slab := 0
	if n := uint64(len(s.slabs[0]) / wordLen); id >= n {
		slab, id = 1, id-n
	}
	return s.slabs[slab][id*wordLen:][:wordLen], s.region[slab]
}

type recvBatch [64]transport.RecvWR

var recvBatches = sync.Pool{New: func() any { return new(recvBatch) }}

// post posts n receives with IDs from id on.
func (s *slots) post(qp transport.QueuePair, id, n uint64) error {
	b := recvBatches.Get().(*recvBatch)
	defer recvBatches.Put(b)
	for n > 0 {
		k := min(n, uint64(len(b)))
		for i := range k {
			mem, region := s.slot(id + i)
			b[i] = transport.RecvWR{ID: id + i, Data: mem, Region: region}
		}
		_, err := qp.PostRecv(b[:k])
		clear(b[:k])
		if err != nil {
			return errors.Wrap(err, "post receives")
		}
		id, n = id+k, n-k
	}
	return nil
}

// used takes note that a receive has been used and can be posted again.
func (s *slots) used(qp transport.QueuePair, id uint64) error {
	if s.count > 0 && id != s.first+s.count || s.count == s.batch {
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
