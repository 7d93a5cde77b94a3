//go:build amd64 || arm64

package rnic

import (
	"sync/atomic"
	"unsafe"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/rnic/internal/abi"
)

// A recvQueue is the account of the receives that are posted, as sendQueue is of sends.
type recvQueue struct {
	ids  []uint64
	mask uint64
	head atomic.Uint64 // changes with recvMu held
	tail atomic.Uint64 // changes with mu held
}

func (r *recvQueue) init(n int) {
	size := ringSize(n)
	r.ids, r.mask = make([]uint64, size), uint64(size-1)
}

// receiveBit tells the numbers of receives from those of sends.
const receiveBit = 1 << 63

// PostRecv implements transport.QueuePair.
func (q *queuePair) PostRecv(wrs []transport.RecvWR) (n int, err error) {
	q.recvMu.Lock()
	defer q.recvMu.Unlock()
	if err := q.Err(); err != nil {
		return 0, err
	}
	return inParts(wrs, q.recvRoom, q.composeReceives, q.postReceives)
}

func (q *queuePair) recvRoom() int { return q.recvDepth - int(q.rq.head.Load()-q.rq.tail.Load()) }

// composeReceives makes device requests of wrs, and returns how many it could. The caller holds
// recvMu.
func (q *queuePair) composeReceives(s *scratch, wrs []transport.RecvWR) (int, error) {
	head := q.rq.head.Load()
	for i := range wrs {
		wr, c := &wrs[i], &s.recvs[i]
		number := head + uint64(i)
		*c = abi.RecvWR{WrID: number | receiveBit}
		if len(wr.Data) > 0 {
			r, err := q.regionOf(wr.Region, wr.Data)
			if err != nil {
				return i, err
			}
			s.sges[i] = abi.Sge{Addr: addressOf(wr.Data), Length: uint32(len(wr.Data)), Lkey: r.key}
			c.SgList, c.NumSge = ptr(&s.sges[i]), 1
		}
		q.rq.ids[number&q.rq.mask] = wr.ID
	}
	return len(wrs), nil
}

// postReceives posts the first n receives of s with one call, and returns how many were taken. The
// caller holds recvMu.
func (q *queuePair) postReceives(s *scratch, n int) (int, error) {
	for i := range n - 1 {
		s.recvs[i].Next = ptr(&s.recvs[i+1])
	}
	s.recvs[n-1].Next = 0
	head := q.rq.head.Load()
	q.rq.head.Store(head + uint64(n))
	err := number(s.call(q.postRecv, q.qp, ptr(&s.recvs[0]), ptr(&s.out[0])))
	if err == nil {
		return n, nil
	}
	taken := taken(s.out[0], ptr(&s.recvs[0]), unsafe.Sizeof(s.recvs[0]), n)
	q.rq.head.Store(head + uint64(taken))
	return taken, q.refused(err)
}
