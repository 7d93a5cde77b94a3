package soft

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/rdmanet/iwarp/internal/instant"
	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/internal/wait"
	"github.com/rdmanet/iwarp/transport/soft/internal/ddp"
	"github.com/rdmanet/iwarp/transport/soft/internal/mpa"
	"github.com/rdmanet/iwarp/transport/soft/internal/rdmap"
)

// A receiver takes FPDUs from the stream. The holder of the receive token owns it.
type receiver struct {
	staging
	aim   *aim // nil while nothing is aimed at
	trend trend
	n     int    // result of the last read of the socket
	err   *error // why it has failed; nil if it has not

	stalled instant.Time // since when the FPDU at r is incomplete, if that matters
	turn    turn

	sendMSN, readMSN uint32
	moff             uint32 // bytes placed of the Send under way
	ird              int16  // does not change once the connection is up; guarded by Mu until then
	untagged, tagged bool   // a message of the kind is under way
	crc              bool
	first            bool // an FPDU has arrived
	over             bool // the peer has sent a Terminate
	output           bool // something must be sent
}

func (rx *receiver) init() { rx.sendMSN, rx.readMSN = 1, 1 }

// midMessage reports whether the stream ends within an FPDU or a message.
func (rx *receiver) midMessage() bool { return rx.r < rx.w || rx.untagged || rx.tagged }

// receive waits, or only looks, until the socket has bytes, its deadline passes or it comes to its
// end, handles that and returns why there were no bytes. A call that waits for c, which may be nil,
// need not be kicked once it is no longer blocked. The caller holds the receive token.
func (q *queuePair) receive(c *wait.Condition, block bool) error {
	rx := &q.rx
	if rx.next() != nil {
		if c != nil {
			c.Blocked.Store(false)
		}
		q.parse(c) // what the call before has left
		return nil
	}
	if block {
		q.sendHeld() // which the peer may be waiting for
	}
	for q.takeAim(c); ; block = false {
		n, err := q.fill(block)
		if c != nil {
			c.Blocked.Store(false)
		}
		if err != nil {
			return q.receiveFailed(err)
		}
		q.parse(c)
		if n >= aimFew || !q.takeAim(c) {
			if rx.aim != nil {
				rx.dropAim() // a guess: its memory is the caller's alone once the call returns
			}
			return nil
		}
	}
}

// fill reads from the socket, until it has what is aimed at if there is an aim, and returns the
// number of bytes.
func (q *queuePair) fill(block bool) (total int, err error) {
	rx := &q.rx
	for {
		rx.n, rx.err = 0, nil
		if block {
			err = q.blockingRead()
		} else if !q.tryRead() {
			err = os.ErrDeadlineExceeded
		}
		rx.unpark()
		err = rx.outcome(err)
		total += rx.n
		switch {
		case err != nil:
			if rx.aim != nil {
				rx.dropAim()
			}
			return total, err
		case rx.aim == nil:
			rx.w += rx.n
			return total, nil
		case rx.aim.guess.before > 0:
			if !q.settleGuess(rx.n) || rx.hit(0) {
				return total, nil
			}
			block = false // as there may be something for the caller
		case rx.hit(rx.n):
			return total, nil
		}
	}
}

// fail records why a read of the socket has failed.
func (rx *receiver) fail(err error) { rx.err = &err }

// failure returns why the last read of the socket has failed, or nil.
func (rx *receiver) failure() error {
	if rx.err == nil {
		return nil
	}
	return *rx.err
}

// outcome returns why a read that returned err has brought nothing.
func (rx *receiver) outcome(err error) error {
	switch {
	case err != nil:
		return err
	case rx.err != nil:
		return *rx.err
	case rx.n == 0:
		return io.EOF
	}
	return nil
}

// receiveFailed handles why there were no bytes, and returns it.
func (q *queuePair) receiveFailed(err error) error {
	rx := &q.rx
	switch {
	case isTimeout(err):
		if rx.stalled != 0 && time.Since(rx.stalled.Time()) >= q.cfg.StallTimeout {
			q.fail(transport.StateError, os.NewSyscallError("read", syscall.ETIMEDOUT))
		}
		return err
	case errors.Is(err, io.EOF) && q.brokenBy() != nil:
		err = q.brokenBy()
	case errors.Is(err, io.EOF) && rx.midMessage():
		err = io.ErrUnexpectedEOF
	case errors.Is(err, io.EOF):
		err = io.EOF
	case errors.Is(err, net.ErrClosed):
		err = transport.ErrClosed
	}
	rx.r = rx.w // nothing will complete it
	rx.release()
	q.fail(transport.StateError, err)
	return err
}

// brokenBy returns the failure of the connection, such as a reset, that a write has run into. The
// kernel reports it once; after that reads find the end of the stream.
func (q *queuePair) brokenBy() error {
	q.tx.mu.Lock()
	defer q.tx.mu.Unlock()
	if isFailure(q.tx.err) {
		return q.tx.err
	}
	return nil
}

// isFailure reports whether err is that of a connection that has failed. A broken pipe says only
// that it had already ended.
func isFailure(err error) bool {
	var errno syscall.Errno
	return errors.Is(err, syscall.ECONNRESET) || errors.As(err, &errno) && errno != syscall.EPIPE
}

// stallDeadline is the earlier of the caller's deadline and the end of patience with an incomplete
// FPDU.
func (rx *receiver) stallDeadline(q *queuePair, deadline time.Time) time.Time {
	if rx.stalled == 0 {
		return deadline
	}
	if end := rx.stalled.Time().Add(q.cfg.StallTimeout); deadline.IsZero() || end.Before(deadline) {
		return end
	}
	return deadline
}

// enough is how many bytes parse handles before it checks whether its caller has what it waits for.
// The caller may then have a better place for the next ones.
const enough = 48 << 10

// parse handles the complete FPDUs in staging: all of them or, if there are many, as many as it
// takes to make c hold or as one turn allows.
func (q *queuePair) parse(c *wait.Condition) {
	rx := &q.rx
	if q.early.Load() {
		q.early.Store(false)
	}
	if rx.aim != nil {
		if e, ulpdu := q.placeAimed(); e != nil {
			q.terminate(e, ulpdu)
		}
	}
	before, left := rx.r, false
	for fpdu := rx.next(); fpdu != nil; fpdu = rx.next() {
		if rx.turn.over() {
			left = true
			break
		}
		if c != nil && rx.r-before >= enough {
			if left, _ = q.Holds(c); left {
				break
			}
		}
		rx.r += len(fpdu)
		var e *rdmap.Error
		if h, payload, ok := q.plainWrite(fpdu); ok {
			e = q.handleWrite(h.STag, h.TO, payload)
		} else {
			e = q.handle(fpdu)
		}
		if e != nil {
			q.terminateFor(e, fpdu)
		}
		if e != nil || rx.over {
			rx.r = rx.w
			break
		}
	}
	if rx.r > before {
		rx.stalled = 0
	}
	rx.release()
	if q.cfg.StallTimeout > 0 && rx.buf != nil && rx.stalled == 0 && !left {
		rx.stalled = instant.Of(time.Now())
	}
	q.answerParsed()
}

// answerParsed sends what has become due by what was parsed.
func (q *queuePair) answerParsed() {
	if q.rx.output {
		q.rx.output = false
		q.tx.mu.Lock()
		q.trySend(false)
		q.tx.mu.Unlock()
	}
	q.resumeNudges()
}

// handle checks one FPDU in the order that yields the Terminate code that peers expect, and passes
// it on. Nothing is placed before its CRC is checked.
func (q *queuePair) handle(fpdu []byte) *rdmap.Error {
	rx := &q.rx
	if t := q.trace.Load(); t != nil {
		q.traceReceived(t, fpdu)
	}
	ulpdu, err := mpa.CheckFPDU(fpdu, false)
	if err != nil {
		return rdmap.ErrMPALength
	}
	seg, err := rdmap.Validate(ulpdu)
	if err == nil && rx.crc {
		_, err = mpa.CheckFPDU(fpdu, true)
	}
	if err != nil {
		e, ok := rdmap.AsError(err)
		if !ok {
			e = rdmap.ErrCatastrophic
		}
		return e
	}
	q.arrived.Add(1)
	rx.turn.fpdus++
	first := !rx.first
	if first {
		rx.first = true
		q.openGate()
	}
	var e *rdmap.Error
	switch {
	case seg.Op == rdmap.OpWrite:
		e = q.handleWrite(seg.T.STag, seg.T.TO, seg.Payload)
	case seg.Op == rdmap.OpReadResponse:
		e = q.handleReadResponse(&seg)
	case seg.Op == rdmap.OpReadRequest:
		e = q.handleReadRequest(&seg, first)
	case seg.Op.IsSend():
		e = q.handleSend(&seg)
	default:
		rx.over = true
		q.handleTerminate(&seg)
	}
	if seg.Tagged {
		rx.tagged = !seg.Last()
	} else {
		rx.untagged = !seg.Last()
	}
	return e
}

// plainWrite takes a segment of an RDMA Write in which nothing is wrong, as nearly all of a stream
// are, for handleWrite; the two are what handle does with it. ok is false if that is not what it
// is. The caller places the payload, to have a frame less on the stack: see writeShort.
func (q *queuePair) plainWrite(fpdu []byte) (h ddp.Tagged, payload []byte, ok bool) {
	rx := &q.rx
	if fpdu[mpa.LengthLen+1] != rdmap.Control(rdmap.OpWrite) || q.trace.Load() != nil {
		return h, nil, false
	}
	ulpdu, err := mpa.CheckFPDU(fpdu, rx.crc)
	if err != nil {
		return h, nil, false
	}
	h, payload, err = ddp.ParseTagged(ulpdu)
	if err != nil {
		return h, nil, false
	}
	if !rx.first {
		rx.first = true
		q.openGate()
	}
	q.arrived.Add(1)
	rx.turn.fpdus++
	rx.tagged = !h.Last
	return h, payload, true
}

// terminateFor is terminate for what is wrong with an FPDU whose length is right.
func (q *queuePair) terminateFor(e *rdmap.Error, fpdu []byte) {
	ulpdu, _ := mpa.CheckFPDU(fpdu, false)
	q.terminate(e, ulpdu)
}

// openGate lets this end send: the peer has shown that it is in full operation.
func (q *queuePair) openGate() {
	q.tx.mu.Lock()
	q.tx.heard = true
	if !q.tx.gateOpen {
		q.tx.gateOpen = true
		q.rx.output = q.rx.output || q.tx.sq.Pending() || q.tx.responses.Len() > 0
	}
	q.tx.mu.Unlock()
}
