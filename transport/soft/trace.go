package soft

import (
	"encoding/binary"
	"fmt"

	"github.com/rdmanet/iwarp/internal/frames"
	"github.com/rdmanet/iwarp/transport/soft/internal/ddp"
	"github.com/rdmanet/iwarp/transport/soft/internal/mpa"
	"github.com/rdmanet/iwarp/transport/soft/internal/rdmap"
)

var _ frames.Source = (*queuePair)(nil)

// SwapTrace implements frames.Source. While a trace is set, each FPDU goes to it: one that is sent
// when it is composed, one that has come before it is looked at.
func (q *queuePair) SwapTrace(before, now *frames.Trace) bool {
	return q.trace.CompareAndSwap(before, now)
}

// FrameTraits implements frames.Source.
func (q *queuePair) FrameTraits() frames.Traits {
	q.Mu.Lock()
	defer q.Mu.Unlock()
	return frames.Traits{Initiator: q.initiator, Revision: int(q.revision), CRC: q.crc}
}

// FrameReader implements frames.Source.
func (q *queuePair) FrameReader() func(*frames.Frame) frames.Text { return readFPDU }

// traceSent records the FPDUs of pieces, each of which begins in a piece that has all its header.
func traceSent(t *frames.Trace, pieces ...[]byte) {
	for len(pieces) > 0 {
		if len(pieces[0]) == 0 {
			pieces = pieces[1:]
			continue
		}
		size, ok := mpa.Peek(pieces[0])
		if !ok {
			return
		}
		var fpdu [3][]byte
		parts, left := fpdu[:0], size
		for left > 0 && len(pieces) > 0 {
			n := min(left, len(pieces[0]))
			parts = append(parts, pieces[0][:n])
			left -= n
			if n == len(pieces[0]) {
				pieces = pieces[1:]
				continue
			}
			pieces = append([][]byte{pieces[0][n:]}, pieces[1:]...) // not in place: they are the batch's
		}
		addFPDU(t, true, false, size, parts...)
	}
}

// traceReceived records an FPDU that is complete.
func (q *queuePair) traceReceived(t *frames.Trace, parts ...[]byte) {
	size, bad := 0, false
	for _, p := range parts {
		size += len(p)
	}
	if len(parts) == 1 && q.rx.crc {
		_, err := mpa.CheckFPDU(parts[0], true)
		bad = err != nil
	}
	addFPDU(t, false, bad, size, parts...)
}

// addFPDU records an FPDU with or without its payload.
func addFPDU(t *frames.Trace, out, bad bool, size int, parts ...[]byte) {
	if t.Payload {
		t.Add(out, bad, size, parts...)
		return
	}
	t.Add(out, bad, size, parts[0][:headLen(parts[0])])
}

// wordLen is the payload of a Send that is a word of two streams to each other, not data of their
// users.
const wordLen = 4

// headLen returns how many bytes of an FPDU are headers or a word.
func headLen(b []byte) int {
	if len(b) < mpa.MinFPDULen {
		return len(b)
	}
	ulpdu := int(binary.BigEndian.Uint16(b))
	n := ddp.TaggedLen
	if op := rdmap.OpcodeOf(b[mpa.LengthLen+1]); !ddp.IsTagged(b[mpa.LengthLen]) {
		n = ddp.UntaggedLen
		switch {
		case op == rdmap.OpReadRequest:
			n += rdmap.ReadRequestLen
		case op == rdmap.OpTerminate:
			n += rdmap.MaxTerminateLen
		case op.IsSend() && ulpdu <= n+wordLen:
			n += wordLen
		}
	}
	return min(mpa.LengthLen+min(n, ulpdu), len(b))
}

// readFPDU says what an FPDU means, of which there may be no payload.
func readFPDU(f *frames.Frame) (t frames.Text) {
	b, ulpdu := f.Data, 0
	if len(b) >= mpa.LengthLen {
		ulpdu = int(binary.BigEndian.Uint16(b))
		b = b[mpa.LengthLen:min(len(b), mpa.LengthLen+ulpdu)]
	}
	switch {
	case ulpdu < 2 || len(b) < 2:
		return frames.Text{Op: "FPDU", Fault: "too short for a header"}
	case f.Bad:
		t.Fault = "its CRC is wrong"
	}
	op := rdmap.OpcodeOf(b[1])
	t.Op = op.String()
	if ddp.IsTagged(b[0]) {
		h, _, err := ddp.ParseTagged(b)
		if err != nil {
			t.Fault = err.Error()
			return t
		}
		t.Payload, t.Last, t.Tagged, t.STag, t.Offset = ulpdu-ddp.TaggedLen, h.Last, true, h.STag, h.TO
		t.Where = fmt.Sprintf("STag %#x, offset %d", h.STag, h.TO)
		if t.Payload == 0 && op == rdmap.OpWrite {
			t.Note = "empty: the start, or to keep alive"
		}
		return t
	}
	h, rest, err := ddp.ParseUntagged(b)
	if err != nil {
		t.Fault = err.Error()
		return t
	}
	t.Payload, t.Last = ulpdu-ddp.UntaggedLen, h.Last
	t.Where = fmt.Sprintf("queue %d, message %d, offset %d", h.QN, h.MSN, h.MO)
	switch {
	case op == rdmap.OpReadRequest:
		if r, err := rdmap.ParseReadRequest(rest); err == nil && t.Payload == rdmap.ReadRequestLen {
			t.Note = fmt.Sprintf("%d bytes from STag %#x, offset %d, to STag %#x, offset %d", r.Size, r.SrcSTag, r.SrcTO, r.SinkSTag, r.SinkTO)
		}
	case op == rdmap.OpTerminate:
		if m, err := rdmap.ParseTerminate(rest); err == nil {
			t.Note = m.String()
		}
	case op.Invalidates():
		t.Note = fmt.Sprintf("invalidates STag %#x", h.ULPWord)
	case op.IsSend() && len(rest) == wordLen && t.Payload == wordLen:
		t.Word = rest
	}
	return t
}
