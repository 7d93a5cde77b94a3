package soft

import (
	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/internal/regions"
	"github.com/rdmanet/iwarp/transport/internal/work"
	"github.com/rdmanet/iwarp/transport/soft/internal/rdmap"
)

// The handlers check what depends on the state of the connection, in the order of the RFCs' error
// tables, and act on it.

// handleWrite places a segment of an RDMA Write (RFC 5040 §5.2, RFC 5041 §5).
func (q *queuePair) handleWrite(stag uint32, to uint64, payload []byte) *rdmap.Error {
	n := uint64(len(payload))
	if n == 0 {
		q.rx.turn.idle++
		return nil // keepalive, RTR: nothing is placed, so nothing is checked
	}
	q.rx.trend.note(stag, to, len(payload))
	q.Regions.RLock()
	r := q.Regions.Lookup(transport.STag(stag))
	news, e := false, mayWrite(r, to, n)
	if e == nil && r.Placer == nil {
		copy(r.Mem[to:], payload)
	} else if e == nil {
		var err error
		if news, err = r.Placer.Place(to, payload); err != nil {
			e = rdmap.ErrBaseBounds
		}
	}
	q.Regions.RUnlock()
	if news {
		q.TellPlaced()
	}
	return e
}

// mayWrite returns why the peer may not write n bytes to r, which may be nil.
func mayWrite(r *regions.Region, to, n uint64) *rdmap.Error {
	// DDP has no code for a missing right; to the peer such an STag does not exist.
	if r == nil || r.Access&transport.RemoteWrite == 0 {
		return rdmap.ErrInvalidSTagTagged
	}
	if to+n < to {
		return rdmap.ErrTOWrap
	}
	if !r.Inside(to, n) {
		return rdmap.ErrBaseBounds
	}
	return nil
}

// handleSend places a segment of a Send in the oldest receive and completes it with the last one.
func (q *queuePair) handleSend(seg *rdmap.Segment) *rdmap.Error {
	rx := &q.rx
	if seg.U.MSN != rx.sendMSN {
		return rdmap.ErrMSNRange
	}
	if seg.U.MO != rx.moff {
		return rdmap.ErrInvalidMO
	}
	if e := q.placeSend(seg); e != nil {
		return e
	}
	if !seg.Last() {
		return nil
	}
	var e *rdmap.Error
	if seg.Op.Invalidates() {
		c := q.received(seg)
		c.Invalidated = transport.STag(seg.U.ULPWord)
		if e = q.invalidate(c.Invalidated); e != nil {
			c.Status, c.Invalidated = transport.StatusInvalidateFailed, 0
		}
		q.TakeRecv(c)
	}
	rx.moff = 0
	rx.sendMSN++
	return e
}

// received is the completion of the Send that ends with seg.
func (q *queuePair) received(seg *rdmap.Segment) transport.Completion {
	return transport.Completion{Opcode: transport.OpRecv, Bytes: int(q.rx.moff), Solicited: seg.Op.Solicited()}
}

func (q *queuePair) placeSend(seg *rdmap.Segment) *rdmap.Error {
	off := q.rx.moff
	q.rx.moff += uint32(len(seg.Payload))
	var done *transport.Completion
	if seg.Last() && !seg.Op.Invalidates() {
		c := q.received(seg)
		done = &c
	}
	switch q.PlaceSend(uint64(off), seg.Payload, nil, done) {
	case work.NoBuffer:
		return rdmap.ErrNoBuffer
	case work.TooLong:
		return rdmap.ErrMessageTooLong
	case work.NoMemory:
		return rdmap.ErrDDPCatastrophic
	}
	return nil
}

// invalidate revokes a region at the peer's request.
func (q *queuePair) invalidate(stag transport.STag) *rdmap.Error {
	switch q.Regions.Invalidate(stag) {
	case regions.Unknown:
		return rdmap.ErrCannotInvalidateUnknown
	case regions.Forbidden:
		return rdmap.ErrCannotInvalidate
	}
	return nil
}

// handleReadRequest queues the answer to an RDMA Read. rtr is true for the first FPDU of the
// connection: some initiators open with an empty read even where no reads were negotiated.
func (q *queuePair) handleReadRequest(seg *rdmap.Segment, rtr bool) *rdmap.Error {
	rx := &q.rx
	if seg.U.MSN != rx.readMSN {
		return rdmap.ErrMSNRange
	}
	if seg.U.MO != 0 {
		return rdmap.ErrInvalidMO
	}
	req, err := rdmap.ParseReadRequest(seg.Payload)
	if err != nil {
		return rdmap.ErrMPALength
	}
	resp := readResponse{sinkSTag: req.SinkSTag, sinkTO: req.SinkTO, left: uint64(req.Size)}
	if req.Size > 0 {
		var e *rdmap.Error
		if resp.src, e = q.readSource(&req); e != nil {
			return e
		}
		resp.srcTO = req.SrcTO
		rtr = false
	} else {
		rx.turn.idle++
	}
	q.tx.mu.Lock()
	defer q.tx.mu.Unlock()
	if q.tx.responses.Len() >= int(rx.ird) && !rtr {
		return rdmap.ErrNoBuffer
	}
	rx.readMSN++
	q.tx.responses.Push(resp)
	rx.output = true
	return nil
}

func (q *queuePair) readSource(req *rdmap.ReadRequest) (*regions.Region, *rdmap.Error) {
	r, verdict := q.Regions.Source(transport.STag(req.SrcSTag), req.SrcTO, uint64(req.Size))
	switch {
	case verdict == regions.Unknown:
		return nil, rdmap.ErrRemoteInvalidSTag
	case verdict == regions.Forbidden:
		return nil, rdmap.ErrRemoteAccess
	case verdict == regions.Outside && req.SrcTO+uint64(req.Size) < req.SrcTO:
		return nil, rdmap.ErrRemoteTOWrap
	case verdict == regions.Outside:
		return nil, rdmap.ErrRemoteBaseBounds
	}
	return r, nil
}

// handleReadResponse places a segment of the answer to our oldest RDMA Read. Every segment is
// checked against what was asked for, not only the last.
func (q *queuePair) handleReadResponse(seg *rdmap.Segment) *rdmap.Error {
	q.tx.mu.Lock()
	defer q.tx.mu.Unlock()
	if q.tx.reads.Len() == 0 {
		return rdmap.ErrInvalidSTagTagged
	}
	read := q.tx.reads.Front()
	n := uint64(len(seg.Payload))
	switch {
	case transport.STag(seg.T.STag) != read.stag:
		return rdmap.ErrInvalidSTagTagged
	case seg.T.TO != read.to+read.done, n > read.size-read.done, seg.Last() && n != read.size-read.done,
		!seg.Last() && n == 0:
		return rdmap.ErrBaseBounds
	}
	if n > 0 {
		q.Regions.RLock()
		live := q.Regions.Lookup(read.sink.STag()) == read.sink
		if live {
			copy(read.sink.Mem[read.to+read.done:], seg.Payload)
		}
		q.Regions.RUnlock()
		if !live {
			return rdmap.ErrInvalidSTagTagged
		}
	}
	read.done += n
	if seg.Last() {
		q.readDone(transport.StatusSuccess)
		// A further read, or what a fence held back until this one, may go now.
		q.rx.output = q.rx.output || q.tx.sq.Pending()
	}
	return nil
}
