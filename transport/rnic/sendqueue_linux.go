//go:build amd64 || arm64

package rnic

import (
	"errors"
	"math/bits"
	"sync/atomic"
	"syscall"
	"unsafe"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/rnic/internal/abi"
)

// A sendQueue is the account of what was posted and has not completed. Requests have running
// numbers, by which the device calls them. Entries are written before the device knows of them, and
// read once it has told of their completion.
type sendQueue struct {
	entries  []sendEntry
	mask     uint64
	head     atomic.Uint64 // number of the next request; changes with sendMu held
	tail     atomic.Uint64 // number of the oldest that has not completed; changes with mu held
	unsigned int           // requests since the last that asks for a completion
	marked   atomic.Uint64 // the number after the last that does; changes with sendMu held
	lost     bool          // some of the user's were not sent; guarded by mu
}

type sendEntry struct {
	id     uint64
	op     transport.Opcode
	silent bool // its completion is nobody's business, unless it fails
	own    bool // it is of this package, and so is its completion
}

func (s *sendQueue) init(n int) {
	size := ringSize(n)
	s.entries, s.mask = make([]sendEntry, size), uint64(size-1)
}

// ringSize is the power of two from n on.
func ringSize(n int) int {
	size := 1
	for size < n {
		size *= 2
	}
	return size
}

func (s *sendQueue) outstanding() int { return int(s.head.Load() - s.tail.Load()) }

// PostSend implements transport.QueuePair.
func (q *queuePair) PostSend(wrs []transport.SendWR) (n int, err error) {
	q.sendMu.Lock()
	defer q.sendMu.Unlock()
	if err := q.sendable(); err != nil {
		return 0, err
	}
	return inParts(wrs, q.sendRoom, q.compose, q.ring)
}

// sendRoom returns how many requests may be posted. The caller holds sendMu.
func (q *queuePair) sendRoom() int {
	room := q.sendDepth - q.sq.outstanding()
	if room <= 0 {
		q.reap()
		room = q.sendDepth - q.sq.outstanding()
	}
	return room
}

// inParts posts requests, as many at once as there is room for, and returns how many the device has
// taken. compose makes device requests of them, and ring posts the first of these.
func inParts[W any](wrs []W, room func() int, compose func(*scratch, []W) (int, error), ring func(*scratch, int) (int, error)) (n int, err error) {
	s := getScratch()
	defer s.release()
	for n < len(wrs) {
		most := room()
		if most <= 0 {
			return n, transport.ErrQueueFull
		}
		k, err := compose(s, wrs[n:min(len(wrs), n+postMax, n+most)])
		if k > 0 {
			posted, perr := ring(s, k)
			n += posted
			if perr != nil {
				return n, perr
			}
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// sendable returns why nothing can be sent. The caller holds sendMu.
func (q *queuePair) sendable() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.err != nil:
		return q.err
	case q.state != transport.StateRTS:
		return transport.ErrNotConnected
	}
	return nil
}

// compose makes device requests of wrs, and returns how many it could. The caller holds sendMu.
func (q *queuePair) compose(s *scratch, wrs []transport.SendWR) (int, error) {
	for i := range wrs {
		if err := q.composeOne(s, i, &wrs[i]); err != nil {
			return i, err
		}
	}
	return len(wrs), nil
}

func (q *queuePair) composeOne(s *scratch, i int, wr *transport.SendWR) error {
	op, ok := q.opcode(wr.Opcode)
	if !ok {
		return errOpcode
	}
	c := &s.sends[i]
	*c = abi.SendWR{Opcode: op, SendFlags: sendFlags(wr.Flags)}
	number := q.sq.head.Load() + uint64(i)
	switch wr.Opcode {
	case transport.OpWrite, transport.OpWriteImmediate, transport.OpRead:
		c.RemoteAddr, c.Rkey = wr.RemoteOffset, uint32(wr.RemoteSTag)
		c.ImmData = swap(wr.Immediate)
	case transport.OpSendInvalidate:
		c.ImmData = uint32(wr.Invalidate)
	}
	switch {
	case len(wr.Data) == 0:
		c.SendFlags &^= abi.SendInline
	case wr.Flags&transport.Inline != 0 && wr.Opcode != transport.OpRead:
		if len(wr.Data) > q.inline {
			return errInline
		}
		copy(s.inline[i][:], wr.Data)
		s.sges[i] = abi.Sge{Addr: uint64(ptr(&s.inline[i][0])), Length: uint32(len(wr.Data))}
		c.SgList, c.NumSge = ptr(&s.sges[i]), 1
	default:
		r, err := q.regionOf(wr.Region, wr.Data)
		if err != nil {
			return err
		}
		r.last = number + 1
		s.sges[i] = abi.Sge{Addr: addressOf(wr.Data), Length: uint32(len(wr.Data)), Lkey: r.key}
		c.SgList, c.NumSge = ptr(&s.sges[i]), 1
	}
	silent := wr.Flags&transport.Signaled == 0
	q.sq.unsigned++
	// Without a completion now and then the device's queue would never be known to have room.
	if !silent || wr.Flags&transport.WillDrain != 0 || 4*q.sq.unsigned >= q.sendDepth {
		c.SendFlags |= abi.SendSignaled
		q.sq.unsigned = 0
		q.sq.marked.Store(number + 1)
	}
	c.WrID = number
	q.sq.entries[number&q.sq.mask] = sendEntry{wr.ID, wr.Opcode, silent, false}
	return nil
}

func (q *queuePair) opcode(op transport.Opcode) (uint32, bool) {
	switch op {
	case transport.OpSend:
		return abi.WRSend, true
	case transport.OpSendInvalidate:
		return abi.WRSendWithInv, true
	case transport.OpWrite:
		return abi.WRRDMAWrite, true
	case transport.OpRead:
		return abi.WRRDMARead, true
	case transport.OpWriteImmediate:
		return abi.WRRDMAWriteWithImm, !q.dev.IWARP
	}
	return 0, false
}

func sendFlags(f transport.Flags) (c uint32) {
	if f&transport.Fence != 0 {
		c |= abi.SendFence
	}
	if f&transport.Solicited != 0 {
		c |= abi.SendSolicited
	}
	if f&transport.Inline != 0 {
		c |= abi.SendInline
	}
	return c
}

// regionOf returns the region that a request names, which must be this queue pair's and hold b.
func (q *queuePair) regionOf(m transport.MemoryRegion, b []byte) (*region, error) {
	r, _ := m.(*region)
	switch {
	case r == nil || r.q != q || !r.live():
		return nil, errNoRegion
	case !r.contains(b):
		return nil, errNotInRegion
	}
	return r, nil
}

func addressOf(b []byte) uint64 { return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) }

// ring posts the first n requests of s with one call, and returns how many were taken. The caller
// holds sendMu.
func (q *queuePair) ring(s *scratch, n int) (int, error) {
	for i := range n - 1 {
		s.sends[i].Next = ptr(&s.sends[i+1])
	}
	s.sends[n-1].Next = 0
	head := q.sq.head.Load()
	q.sq.head.Store(head + uint64(n))
	err := number(s.call(q.postSend, q.qp, ptr(&s.sends[0]), ptr(&s.out[0])))
	if err == nil {
		return n, nil
	}
	taken := taken(s.out[0], ptr(&s.sends[0]), unsafe.Sizeof(s.sends[0]), n)
	q.sq.head.Store(head + uint64(taken))
	q.sq.marked.Store(min(q.sq.marked.Load(), head))
	q.sq.unsigned = q.sendDepth // the one that asks for a completion may be among the rest
	return taken, q.refused(err)
}

// taken is how many of n requests, of size bytes each from first on, come before the one that was
// refused.
func taken(bad, first, size uintptr, n int) int {
	if bad < first || bad >= first+uintptr(n)*size {
		return n // the provider does not tell, or could not ring the bell
	}
	return int((bad - first) / size)
}

// refused says what it means that the device did not take requests.
func (q *queuePair) refused(err error) error {
	if errors.Is(err, syscall.ENOMEM) {
		return transport.ErrQueueFull
	}
	q.fail(transport.StateError, brokenBy(err))
	return q.Err()
}

// postEmptyWrite sends an empty Write to nowhere, which the peer ignores, and asks for its
// completion. The caller holds sendMu.
func (q *queuePair) postEmptyWrite() error {
	if q.sq.outstanding() >= q.sendDepth+spareEntries {
		return transport.ErrQueueFull
	}
	s := getScratch()
	defer s.release()
	if err := q.composeOne(s, 0, &transport.SendWR{Opcode: transport.OpWrite, Flags: transport.WillDrain}); err != nil {
		return err
	}
	q.sq.entries[q.sq.head.Load()&q.sq.mask].own = true
	_, err := q.ring(s, 1)
	return err
}

// swap turns immediate data, which requests and completions have in network byte order. Both
// processors are little-endian.
func swap(v uint32) uint32 { return bits.ReverseBytes32(v) }
