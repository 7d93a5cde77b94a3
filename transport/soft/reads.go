package soft

import (
	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/internal/queue"
	"github.com/rdmanet/iwarp/transport/internal/regions"
	"github.com/rdmanet/iwarp/transport/soft/internal/ddp"
	"github.com/rdmanet/iwarp/transport/soft/internal/mpa"
	"github.com/rdmanet/iwarp/transport/soft/internal/rdmap"
)

// An outstandingRead is an RDMA Read of ours whose response is not complete.
type outstandingRead struct {
	stag transport.STag // sink
	to   uint64
	size uint64
	done uint64 // bytes placed
	sink *regions.Region
	rtr  bool // start-up frame; no work request belongs to it
}

// A readResponse is an answer that the peer is waiting for.
type readResponse struct {
	sinkSTag uint32
	sinkTO   uint64
	src      *regions.Region // nil for an empty read
	srcTO    uint64
	left     uint64
}

// composeRead appends the Read Request for e.
func (q *queuePair) composeRead(e *queue.Send) bool {
	size := len(e.WR.Data)
	read := outstandingRead{to: e.SinkTO, size: uint64(size), stag: rtrSTag}
	if r, _ := e.WR.Region.(*regions.Region); r != nil && size > 0 {
		read.sink, read.stag = r, r.STag()
	}
	if !q.composeReadRequest(&rdmap.ReadRequest{SinkSTag: uint32(read.stag), SinkTO: read.to, Size: uint32(size),
		SrcSTag: uint32(e.WR.RemoteSTag), SrcTO: e.WR.RemoteOffset}) {
		return false
	}
	e.State = queue.SendWaiting
	q.tx.reads.Push(read)
	q.sent(e)
	return true
}

func (q *queuePair) composeReadRequest(r *rdmap.ReadRequest) bool {
	t := &q.tx
	const hdr = ddp.UntaggedLen + rdmap.ReadRequestLen
	if _, _, ok := t.fit(hdr, 0, true); !ok {
		return false
	}
	start := t.out.used
	h := t.out.header(mpa.LengthLen + hdr)[mpa.LengthLen:]
	(&ddp.Untagged{Last: true, ULP: rdmap.Control(rdmap.OpReadRequest), QN: ddp.QueueRead, MSN: t.readMSN}).Put(h)
	r.Put(h[ddp.UntaggedLen:])
	t.out.finish(start, hdr, nil, t.crc, false)
	t.readMSN++
	return true
}

// composeResponse appends a segment of the oldest read response. Its payload is copied, because the
// application may change exposed memory between the CRC and the write.
func (q *queuePair) composeResponse() bool {
	t := &q.tx
	r := t.responses.Front()
	n, _, ok := t.fit(ddp.TaggedLen, int(min(r.left, 32<<10)), true)
	if !ok {
		return false
	}
	start := t.out.used
	last := uint64(n) == r.left
	h := t.out.header(mpa.LengthLen + ddp.TaggedLen)[mpa.LengthLen:]
	(&ddp.Tagged{Last: last, ULP: rdmap.Control(rdmap.OpReadResponse), STag: r.sinkSTag, TO: r.sinkTO}).Put(h)
	var payload []byte
	if n > 0 {
		q.Regions.RLock()
		defer q.Regions.RUnlock()
		if q.Regions.Lookup(r.src.STag()) != r.src {
			// Revoked while the read was on its way: none of it may leave any more.
			t.out.used = start
			q.refuse(rdmap.ErrRemoteInvalidSTag)
			return false
		}
		payload = r.src.Mem[r.srcTO : r.srcTO+uint64(n)]
	}
	t.out.finish(start, ddp.TaggedLen, payload, t.crc, false)
	r.sinkTO, r.srcTO, r.left = r.sinkTO+uint64(n), r.srcTO+uint64(n), r.left-uint64(n)
	t.floor = floorResponse
	if last {
		t.responses.Pop()
		t.floor = t.floor.finish()
	}
	return true
}

// readDone completes the oldest outstanding read. The caller holds tx.mu.
func (q *queuePair) readDone(status transport.Status) {
	rtr := q.tx.reads.Front().rtr
	q.tx.reads.Pop()
	if rtr {
		return
	}
	q.tx.sq.ReadDone(status)
	q.retire()
}
