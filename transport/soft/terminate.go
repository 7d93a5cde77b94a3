package soft

import (
	"fmt"
	"time"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/soft/internal/ddp"
	"github.com/rdmanet/iwarp/transport/soft/internal/mpa"
	"github.com/rdmanet/iwarp/transport/soft/internal/rdmap"
)

// terminate ends the connection for a fault in the peer's ulpdu: a Terminate, never inside an FPDU
// that is under way, then the end of the stream (RFC 5040 §5.4).
func (q *queuePair) terminate(e *rdmap.Error, ulpdu []byte) {
	err := &transport.TerminateError{Layer: e.Layer, Type: e.Type, Code: e.Code, Local: true, Text: e.Text()}
	q.tx.mu.Lock()
	if !q.Leave(transport.StateTerminate, err) {
		q.tx.mu.Unlock()
		return
	}
	q.tx.out.keep(0)
	q.tx.putControl(terminateFPDU(e, ulpdu, q.tx.crc))
	q.flushSends()
	q.tx.phase.reach(phaseClosing)
	q.tx.parting = true
	q.tryWrite()
	q.tx.mu.Unlock()
	q.sock.kick()
	q.part(&parting{q: q, until: time.Now().Add(terminateLimit)})
}

// Terminate ends the connection for a fault of the peer's that the user of the queue pair has
// found, above RDMAP. The peer is told of an unspecified remote operation error (RFC 5040 §4.8).
// Close must still be called.
func (q *queuePair) Terminate() { q.terminate(rdmap.ErrRemoteOperation, nil) }

func terminateFPDU(e *rdmap.Error, ulpdu []byte, crc bool) []byte {
	msg := e.Terminate(ulpdu)
	fpdu := make([]byte, mpa.LengthLen, mpa.LengthLen+ddp.UntaggedLen+rdmap.MaxTerminateLen+mpa.CRCLen+3)
	fpdu = (&ddp.Untagged{Last: true, ULP: rdmap.Control(rdmap.OpTerminate), QN: ddp.QueueTerminate, MSN: 1}).Append(fpdu)
	fpdu = msg.Append(fpdu)
	n := len(fpdu) - mpa.LengthLen
	return mpa.Seal(fpdu[:cap(fpdu)], n, crc)
}

// handleTerminate takes the peer's report and ends the connection without an answer.
func (q *queuePair) handleTerminate(seg *rdmap.Segment) {
	msg, err := rdmap.ParseTerminate(seg.Payload)
	if err != nil {
		return
	}
	te := &transport.TerminateError{Layer: msg.Layer, Type: msg.Type, Code: msg.Code, Text: "unknown cause"}
	if e := rdmap.Lookup(msg.Layer, msg.Type, msg.Code); e != nil {
		te.Text = e.Text()
	}
	// The Linux kernel's siw swaps the halves of the first byte, so name the other reading too
	// where it has a meaning.
	if o := msg.Swapped(); o.Layer != msg.Layer || o.Type != msg.Type {
		if e := rdmap.Lookup(o.Layer, o.Type, o.Code); e != nil {
			te.Text = fmt.Sprintf("%s, or from siw %s (%d/%d/%#02x)", te.Text, e.Text(), o.Layer, o.Type, o.Code)
		}
	}
	q.tx.mu.Lock()
	if q.tx.reads.Len() > 0 && msg.Layer == rdmap.Layer && !q.tx.reads.Front().rtr {
		status := transport.StatusRemoteAccess
		if msg.Type == rdmap.TypeRemoteOperation {
			status = transport.StatusRemoteOperation
		}
		q.readDone(status)
	}
	q.tx.mu.Unlock()
	q.fail(transport.StateTerminate, te)
}

// refuse stops sending and terminates the connection, for a fault found while composing FPDUs. The
// caller holds tx.mu.
func (q *queuePair) refuse(e *rdmap.Error) {
	if q.tx.phase.composes() {
		q.tx.phase = phaseRefused
		go q.terminate(e, nil)
	}
}
