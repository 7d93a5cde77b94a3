package soft

import (
	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/internal/regions"
	"github.com/rdmanet/iwarp/transport/soft/internal/rdmap"
)

// The handlers check what depends on the state of the connection, in the order of the RFCs' error
// tables, and act on it.

// handleWrite places a segment of an RDMA Write (RFC 5040 §5.2, RFC 5041 §5).
func (q *queuePair) handleWrite(seg *rdmap.Segment) *rdmap.Error {
	if len(seg.Payload) == 0 {
		q.rx.turn.idle++
		return nil // keepalive, RTR: nothing is placed, so nothing is checked
	}
	q.regions.RLock()
	defer q.regions.RUnlock()
	r := q.regions.Lookup(transport.STag(seg.T.STag))
	// DDP has no code for a missing right; to the peer such an STag does not exist.
	if r == nil || r.Access&transport.RemoteWrite == 0 {
		return rdmap.ErrInvalidSTagTagged
	}
	if seg.T.TO+uint64(len(seg.Payload)) < seg.T.TO {
		return rdmap.ErrTOWrap
	}
	if !r.Inside(seg.T.TO, uint64(len(seg.Payload))) {
		return rdmap.ErrBaseBounds
	}
	if r.Placer != nil {
		news, err := r.Placer.Place(seg.T.TO, seg.Payload)
		if err != nil {
			return rdmap.ErrBaseBounds
		}
		if news {
			q.tellPlaced()
		}
		return nil
	}
	copy(r.Mem[seg.T.TO:], seg.Payload)
	return nil
}

// tellPlaced makes a call of Wait return for what was placed. Whoever places also reads the socket,
// so only followers have to be woken.
func (q *queuePair) tellPlaced() {
	if q.placed.Load() {
		return
	}
	q.placed.Store(true)
	// A follower that is not counted yet finds the mark before it sleeps.
	if q.crew.Followed() {
		q.mu.Lock()
		q.crew.Wake()
		q.mu.Unlock()
	}
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
		q.mu.Lock()
		q.takeRecv(c)
		q.mu.Unlock()
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
	rx := &q.rx
	// Held while bytes are placed: a receive that is flushed, or whose region is gone, is no longer
	// written to.
	q.regions.RLock()
	defer q.regions.RUnlock()
	q.mu.Lock()
	defer q.mu.Unlock()
	r := q.rq.Head()
	if q.err != nil || r == nil {
		return rdmap.ErrNoBuffer
	}
	if len(seg.Payload) > len(r.Mem)-int(rx.moff) {
		q.takeRecv(transport.Completion{Opcode: transport.OpRecv, Status: transport.StatusLocalLength})
		return rdmap.ErrMessageTooLong
	}
	if len(seg.Payload) > 0 && !q.regions.Live(r.Region) {
		q.takeRecv(transport.Completion{Opcode: transport.OpRecv, Status: transport.StatusLocalProtection})
		return rdmap.ErrDDPCatastrophic
	}
	copy(r.Mem[rx.moff:], seg.Payload)
	rx.moff += uint32(len(seg.Payload))
	if seg.Last() && !seg.Op.Invalidates() {
		q.takeRecv(q.received(seg))
	}
	return nil
}

// takeRecv takes the oldest receive off its queue with c, which gets its ID. The caller holds mu.
func (q *queuePair) takeRecv(c transport.Completion) {
	r := q.rq.Head()
	if r == nil {
		return // flushed meanwhile
	}
	c.ID = r.ID
	q.rq.Pop()
	q.complete(c)
}

// invalidate revokes a region at the peer's request; the peer can name only one that it was given
// rights to.
func (q *queuePair) invalidate(stag transport.STag) *rdmap.Error {
	q.regions.RLock()
	r := q.regions.Lookup(stag)
	q.regions.RUnlock()
	if r == nil {
		return rdmap.ErrCannotInvalidateUnknown
	}
	if !r.Remote() || r.Placer != nil {
		return rdmap.ErrCannotInvalidate
	}
	q.regions.Remove(stag)
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
	if q.tx.responses.Len() >= rx.ird && !rtr {
		return rdmap.ErrNoBuffer
	}
	rx.readMSN++
	q.tx.responses.Push(resp)
	rx.output = true
	return nil
}

func (q *queuePair) readSource(req *rdmap.ReadRequest) (*regions.Region, *rdmap.Error) {
	q.regions.RLock()
	defer q.regions.RUnlock()
	r := q.regions.Lookup(transport.STag(req.SrcSTag))
	switch {
	case r == nil:
		return nil, rdmap.ErrRemoteInvalidSTag
	case r.Access&transport.RemoteRead == 0 || r.Placer != nil:
		return nil, rdmap.ErrRemoteAccess
	case req.SrcTO+uint64(req.Size) < req.SrcTO:
		return nil, rdmap.ErrRemoteTOWrap
	case !r.Inside(req.SrcTO, uint64(req.Size)):
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
		q.regions.RLock()
		live := q.regions.Lookup(read.sink.STag()) == read.sink
		if live {
			copy(read.sink.Mem[read.to+read.done:], seg.Payload)
		}
		q.regions.RUnlock()
		if !live {
			return rdmap.ErrInvalidSTagTagged
		}
	}
	read.done += n
	if seg.Last() {
		q.readDone(transport.StatusSuccess)
		// A further read, or what a fence held back until this one, may go now.
		q.rx.output = q.rx.output || q.tx.sq.next < q.tx.sq.len
	}
	return nil
}
