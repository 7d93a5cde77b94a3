package soft

import (
	"sync"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/internal/pool"
	"github.com/rdmanet/iwarp/transport/internal/queue"
	"github.com/rdmanet/iwarp/transport/internal/regions"
	"github.com/rdmanet/iwarp/transport/internal/wait"
	"github.com/rdmanet/iwarp/transport/soft/internal/ddp"
	"github.com/rdmanet/iwarp/transport/soft/internal/mpa"
	"github.com/rdmanet/iwarp/transport/soft/internal/rdmap"
)

const (
	fpduOverhead = 64        // more than header, length, pad and CRC
	maxBatch     = 512 << 10 // bytes
	// trapSize is the payload size from which the kernel's copy is sensitive to how far apart source
	// and target lie: on some processors it is several times slower when they differ by 1 to 31 bytes
	// modulo the page size, and the 16 bytes of a Write's header would do just that.
	trapSize = 8 << 10
	trapLead = 64 // bytes of payload that are then sent on their own
)

// A transmitter turns work requests into FPDUs. mu guards all of it.
type transmitter struct {
	mu        sync.Mutex
	sq        queue.Sends
	reads     queue.FIFO[outstandingRead] // requested by us, in order
	responses queue.FIFO[readResponse]    // requested by the peer, in order
	control   *control                    // FPDUs that precede all others: RTR, Terminate; nil while there are none
	out       output
	nudger    nudger
	token     wait.Token // the right to block until the socket takes more
	err       error      // sending has failed

	sendMSN, readMSN uint32
	maxULPDU         int32
	ord              int16
	large            bool // FPDUs need neither fit nor start a TCP segment
	crc              bool
	gateOpen         bool   // a responder is silent until the first FPDU of its peer (RFC 5044 §7.1)
	awaiting         bool   // a goroutine reads to see what the requests that cannot be sent yet wait for
	heard            bool   // an FPDU of the peer has arrived
	unseen           bool   // the last FPDU was composed before that
	prompt           bool   // the peer is one that sees all that comes after its MPA reply
	blocked          bool   // the kernel did not take everything at the last try
	driver           driver // who is blocked until it does
	phase            phase
	parting          bool // Close was called: what is left is sent by a parting
	floor            floor
	age              uint8  // batches since the MSS was looked at
	taken            uint32 // bytes that the kernel has taken; it wraps
	queued           int    // bytes that are likely to be composed
}

func (t *transmitter) useMSS(mss int) {
	if !t.large {
		t.maxULPDU = int32(mpa.MULPDU(mss))
	}
}

// knowMSS looks at the MSS before it is first needed. The caller holds tx.mu.
func (q *queuePair) knowMSS() {
	if q.tx.maxULPDU == 0 {
		q.tx.useMSS(q.sock.mss())
	}
}

func (t *transmitter) useLarge(fpdu int) {
	t.large = true
	t.maxULPDU = int32(min(fpdu&^3-mpa.LengthLen-mpa.CRCLen, mpa.MaxULPDU))
}

// limit is the size of a batch. Aligned FPDUs are sent a TCP segment at a time.
func (t *transmitter) limit() int {
	if t.large {
		return maxBatch
	}
	return mpa.FPDULen(int(t.maxULPDU))
}

// compose fills the empty batch and reports whether there is something in it.
func (q *queuePair) compose() bool {
	t := &q.tx
	if t.phase == phaseEnded || t.control == nil && !t.sq.Pending() && t.responses.Len() == 0 {
		return false
	}
	if c := t.control; c != nil {
		t.out.begin(c.n)
		q.takeControl(t.out.header(c.n))
		q.sealed()
		return true
	}
	if !t.gateOpen || !t.phase.composes() {
		return false
	}
	q.knowMSS()
	size := pool.Small
	if t.queued > pool.Small-1024 || t.responses.Len() > 0 {
		size = pool.Large
	}
	t.out.begin(size)
	for q.composeNext() {
	}
	if t.out.size == 0 {
		t.out.reset()
		return false
	}
	q.sealed()
	return true
}

// sealed makes the batch ready to be sent.
func (q *queuePair) sealed() {
	t := &q.tx
	t.out.seal()
	t.unseen = !t.heard
	if to := q.trace.Load(); to != nil {
		traceSent(to, t.out.pieces...)
	}
}

// composeNext appends the next FPDU, if one is due and fits.
func (q *queuePair) composeNext() bool {
	t := &q.tx
	if !t.phase.composes() {
		return false
	}
	switch t.floor.next(t.sq.Sendable(t.reads.Len(), int(t.ord)), t.responses.Len() > 0) {
	case floorSend:
		return q.composeSend()
	case floorResponse:
		return q.composeResponse()
	}
	return false
}

// fit returns how many of left payload bytes go into the next FPDU after a header of hdr bytes,
// whether they stay where they are, and whether the FPDU goes into this batch.
func (t *transmitter) fit(hdr, left int, copied bool) (n int, ref, ok bool) {
	b := &t.out
	n = min(left, int(t.maxULPDU)-hdr)
	ref = t.large && !copied && n > refThreshold
	total := mpa.FPDULen(hdr + n)
	if b.size > 0 && b.size+total > t.limit() {
		return 0, false, false
	}
	need := total
	if ref {
		need = fpduOverhead
		if b.full() {
			return 0, false, false
		}
	}
	if need > b.room() {
		if b.size > 0 {
			return 0, false, false
		}
		// A first FPDU that is copied is worth a larger buffer.
		b.reset()
		b.begin(need)
	}
	return n, ref, true
}

func (q *queuePair) composeSend() bool {
	t := &q.tx
	e := t.sq.Next()
	if e.WR.Opcode == transport.OpRead {
		return q.composeRead(e)
	}
	if !q.composeSegment(e) {
		return false
	}
	if t.floor != floorSend {
		if e.WR.Opcode != transport.OpWrite {
			t.sendMSN++
		}
		q.sent(e)
		t.out.sends++
	}
	return true
}

// composeSegment appends the next segment of e.
func (q *queuePair) composeSegment(e *queue.Send) bool {
	t := &q.tx
	hdr := ddp.UntaggedLen
	if e.WR.Opcode == transport.OpWrite {
		hdr = ddp.TaggedLen
	}
	left := len(e.Rest())
	if e.WR.Flags&transport.Inline == 0 && left > 0 {
		q.Regions.RLock()
		defer q.Regions.RUnlock()
		if r, _ := e.WR.Region.(*regions.Region); !q.Regions.Live(r) {
			e.Status = transport.StatusLocalProtection
			q.refuse(rdmap.ErrCatastrophic)
			return false
		}
	}
	// A first segment with a little payload, copied, keeps the rest at a distance from the start of
	// the page.
	apart := t.large && t.out.size == 0 && left >= trapSize
	fits := left
	if apart {
		fits = trapLead
	}
	n, ref, ok := t.fit(hdr, fits, apart)
	if !ok {
		return false
	}
	last := n == left
	b := &t.out
	start := b.used
	h := b.header(mpa.LengthLen + hdr)[mpa.LengthLen:]
	if e.WR.Opcode == transport.OpWrite {
		(&ddp.Tagged{Last: last, ULP: rdmap.Control(rdmap.OpWrite), STag: uint32(e.WR.RemoteSTag),
			TO: e.WR.RemoteOffset + e.Base + uint64(e.Off)}).Put(h)
	} else {
		(&ddp.Untagged{Last: last, ULP: rdmap.Control(sendOpcode(&e.WR)), ULPWord: invalidated(&e.WR),
			QN: ddp.QueueSend, MSN: t.sendMSN, MO: uint32(e.Base) + uint32(e.Off)}).Put(h)
	}
	b.finish(start, hdr, e.Rest()[:n], t.crc, ref)
	b.brief = b.brief || ref && e.WR.Flags&transport.Lent == 0
	e.Off += n
	t.floor = floorSend
	if last {
		t.floor = t.floor.finish()
	}
	return true
}

// sent records that e is composed to its end.
func (q *queuePair) sent(e *queue.Send) {
	t := &q.tx
	t.sq.Sent()
	t.queued -= len(e.WR.Data) + fpduOverhead
	t.floor = floorSent
	if t.sq.Pending() {
		return
	}
	t.queued = 0
	if t.awaiting {
		t.awaiting = false
		q.background.stall(q, -1)
	}
}

func (q *queuePair) composeEmptyWrite() {
	b := &q.tx.out
	start := b.used
	h := b.header(mpa.LengthLen + ddp.TaggedLen)[mpa.LengthLen:]
	(&ddp.Tagged{Last: true, ULP: rdmap.Control(rdmap.OpWrite), STag: rtrSTag}).Put(h)
	b.finish(start, ddp.TaggedLen, nil, q.tx.crc, false)
}

func sendOpcode(wr *transport.SendWR) rdmap.Opcode {
	solicited := wr.Flags&transport.Solicited != 0
	switch {
	case wr.Opcode == transport.OpSendInvalidate && solicited:
		return rdmap.OpSendSEInvalidate
	case wr.Opcode == transport.OpSendInvalidate:
		return rdmap.OpSendInvalidate
	case solicited:
		return rdmap.OpSendSE
	}
	return rdmap.OpSend
}

func invalidated(wr *transport.SendWR) uint32 {
	if wr.Opcode == transport.OpSendInvalidate {
		return uint32(wr.Invalidate)
	}
	return 0
}

// transmitOn sends as much as the descriptor takes now and reports whether there is more that the
// driver must wait for. The caller holds tx.mu.
func (q *queuePair) transmitOn(fd int) (wait bool) {
	t := &q.tx
	t.blocked = false
	for t.err == nil {
		if t.out.empty() && !q.compose() {
			break
		}
		n, err := q.sock.write(fd, t.out.batch, !t.large)
		if err != nil {
			q.sendFailed(err)
			break
		}
		t.taken += uint32(n)
		if !t.out.sent(n) {
			if n == 0 {
				t.blocked = true
				return t.driver != driverDrains || t.sq.Len() > 0
			}
			continue
		}
		q.batchSent()
	}
	return false
}

// batchSent completes the work requests that end in the batch.
func (q *queuePair) batchSent() {
	t := &q.tx
	for i, n := 0, t.out.sends; n > 0; i++ {
		if e := t.sq.At(i); e.State == queue.SendQueued {
			e.State = queue.SendDone
			n--
		}
	}
	t.out.reset()
	q.retire()
	if !t.large {
		if t.age++; t.age >= 64 {
			t.age = 0
			t.useMSS(q.sock.mss())
		}
	}
}

// sendFailed stops all sending. What the peer sent before can still be received, so the queue pair
// as such lives on until the receive side comes to its end. The caller holds tx.mu.
func (q *queuePair) sendFailed(err error) {
	q.tx.err = err
	q.tx.out.reset()
	q.flushSends()
}

// trySend sends what can be sent now. A goroutine sends what is left, unless the caller drains the
// queue or somebody already does. The caller holds tx.mu.
func (q *queuePair) trySend(willDrain bool) {
	q.tryWrite()
	t := &q.tx
	if t.err != nil {
		return
	}
	if t.blocked || t.sq.Pending() {
		but := transport.Lent // which its caller leaves alone until Drain returns
		if t.parting {
			but = 0
		}
		q.keepInline(but)
	}
	if willDrain || t.parting {
		return
	}
	q.leaveToBackground()
}

// leaveToBackground makes sure that output goes on when no caller drives it. The caller holds
// tx.mu.
func (q *queuePair) leaveToBackground() {
	t := &q.tx
	switch {
	case t.blocked:
		if t.driver == driverNone {
			q.finishOutput()
		}
	case t.sq.Pending() && !t.awaiting && t.err == nil && t.phase < phaseClosing:
		// The gate is closed, or reads have to be answered first.
		t.awaiting = true
		q.background.stall(q, 1)
	}
}
