package soft

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"syscall"
	"time"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/internal/pool"
	"github.com/rdmanet/iwarp/transport/internal/setup"
	"github.com/rdmanet/iwarp/transport/soft/internal/mpa"
	"github.com/rdmanet/iwarp/transport/soft/internal/rdmap"
)

// rtrSTag is what start-up frames and other empty Writes name; nobody looks it up (RFC 5041 §5.2).
const rtrSTag = 1

var errNotMPA = errors.New("what the peer sent is not an mpa start-up frame")

// room is for the private data of a peer of this module, so that it takes no memory of its own.
type room [112]byte

// readFrame reads one start-up frame, and returns what has come behind it as well. Whether that may
// be is up to the caller. The private data is in mem if there is room for it.
func readFrame(c *net.TCPConn, reply bool, mem *room) (f mpa.Frame, rest []byte, err error) {
	own := pool.Get(mpa.MaxFrameLen)
	defer pool.Put(own)
	buf := *own
	isPrefix := mpa.IsRequestPrefix
	if reply {
		isPrefix = mpa.IsReplyPrefix
	}
	total := mpa.FrameHeaderLen
	// The key is checked first, so that a peer that speaks something else and then waits is found out
	// at once.
	for n := 0; n < total; {
		m, err := c.Read(buf[n:])
		n += m
		if !isPrefix(buf[:n]) {
			return f, nil, errNotMPA
		}
		if n >= mpa.FrameHeaderLen {
			var bad error
			if total, bad = mpa.ParseHeader(buf[:n], reply); bad != nil && !errors.Is(bad, mpa.ErrEnhanced) {
				return mpa.Frame{Revision: buf[mpa.KeySize+1]}, nil, bad
			}
		}
		if err != nil && n < total {
			return f, nil, frameError(err, n)
		}
		rest = buf[min(n, total):n]
	}
	f, err = mpa.Parse(buf[:total], reply)
	f.PrivateData = append(mem[:0], f.PrivateData...)
	return f, bytes.Clone(rest), err
}

// frameError names the end of the stream within a frame for what it is.
func frameError(err error, n int) error {
	if errors.Is(err, io.EOF) && n > 0 {
		return io.ErrUnexpectedEOF
	}
	return err
}

func writeFrame(c *net.TCPConn, f *mpa.Frame) error {
	own := pool.Get(mpa.MaxFrameLen)
	defer pool.Put(own)
	// One write: some RNICs need the frame in one TCP segment.
	b, err := f.Append((*own)[:0])
	if err != nil {
		return err
	}
	_, err = c.Write(b)
	return err
}

func depth(n int) uint16 { return uint16(min(n, mpa.NoDepth-1)) }

// initiate exchanges request and reply as the active side and brings q to StateRTS. What readFrame
// has mem for, it has.
func (q *queuePair) initiate(ctx context.Context, rev uint8, private []byte, mem *room) (reply mpa.Frame, err error) {
	req := mpa.Frame{Revision: rev, PrivateData: private}
	if !q.Opts.NoCRC {
		req.Flags |= mpa.FlagCRC
	}
	if rev >= mpa.Rev2 {
		req.Flags |= mpa.FlagEnhanced
		// The Read form of RTR takes a read on either side.
		req.Enhanced = mpa.Enhanced{IRD: depth(max(int(q.Opts.IRD), 1)), ORD: depth(max(int(q.Opts.ORD), 1)),
			PeerToPeer: true, RTRWrite: true, RTRRead: true}
	}
	c := q.sock.c
	x := setup.Begin(ctx, c, q.cfg.ReplyTimeout)
	var rest []byte
	if err = writeFrame(c, &req); err == nil {
		reply, rest, err = readFrame(c, true, mem)
	}
	if err = x.End(err); err != nil {
		return reply, err
	}
	if reply.Flags&mpa.FlagReject != 0 {
		return reply, &transport.RejectedError{PrivateData: reply.PrivateData}
	}
	crc := (req.Flags|reply.Flags)&mpa.FlagCRC != 0
	if reply.Flags&mpa.FlagMarkers != 0 {
		q.giveUp(rdmap.ErrMPAFrame, crc)
		return reply, errMarkers
	}
	ird, ord := int(q.Opts.IRD), int(q.Opts.ORD)
	rtr := mpa.Enhanced{}
	if rev >= mpa.Rev2 && reply.Flags&mpa.FlagEnhanced != 0 {
		rtr = reply.Enhanced
		if ird, ord, err = negotiate(ird, ord, rtr.IRD, rtr.ORD); err != nil {
			q.giveUp(rdmap.ErrMPAInsufficientIRD, crc)
			return reply, err
		}
		if rtr.PeerToPeer && !rtr.RTRWrite && !rtr.RTRRead {
			q.giveUp(rdmap.ErrMPANoRTR, crc)
			return reply, errNoRTR
		}
	}
	q.revision = reply.Revision
	q.configure(crc, ird, ord, true)
	if len(rest) > 0 { // of a peer that does not wait for our first FPDU
		q.rx.put(rest)
		q.early.Store(true)
	}
	if rtr.PeerToPeer {
		q.queueRTR(rtr.RTRRead)
	}
	if err := q.start(); err != nil {
		return reply, err
	}
	if q.held.Load() {
		heldRTRs.add(q)
	} else {
		q.startNudges()
	}
	return reply, nil
}

var (
	errMarkers = errors.New("peer demands mpa markers, which are not supported")
	errNoRTR   = errors.New("peer offers no ready-to-receive frame in common")
	errIRD     = errors.New("peer wants more rdma reads in flight than can be served; lower its ord")
)

// negotiate returns our depths for those of the peer's frame: our ORD within its IRD, our IRD not
// below its ORD (RFC 6581 §9). A depth of NoDepth is left alone, and so is an IRD of none, which
// the user has asked for.
func negotiate(ird, ord int, peerIRD, peerORD uint16) (int, int, error) {
	if peerORD != mpa.NoDepth && int(peerORD) > ird && ird > 0 {
		if peerORD > maxReads {
			return 0, 0, errIRD
		}
		ird = int(peerORD)
	}
	if peerIRD != mpa.NoDepth {
		ord = min(ord, int(peerIRD))
	}
	return ird, ord, nil
}

// giveUp tells the peer why its reply is not acceptable.
func (q *queuePair) giveUp(e *rdmap.Error, crc bool) {
	_ = q.sock.c.SetDeadline(time.Now().Add(time.Second))
	_, _ = q.sock.c.Write(terminateFPDU(e, nil, crc))
}

// queueRTR makes the frame that opens the responder's gate (RFC 6581 §5) the first FPDU that is
// sent. That is with the first data, or before a call waits for the peer, or else soon.
func (q *queuePair) queueRTR(read bool) {
	q.tx.mu.Lock()
	defer q.tx.mu.Unlock()
	t := &q.tx
	t.out.begin(pool.Small)
	if read {
		q.composeReadRequest(&rdmap.ReadRequest{SinkSTag: rtrSTag, SrcSTag: rtrSTag})
		t.reads.Push(outstandingRead{stag: rtrSTag, rtr: true})
	} else {
		q.composeEmptyWrite()
	}
	t.precede()
	q.held.Store(true)
}

// sendHeld sends the RTR frame, if that is still held back.
func (q *queuePair) sendHeld() {
	if q.held.Load() {
		q.tx.mu.Lock()
		defer q.tx.mu.Unlock()
		q.sendHeldLocked()
	}
}

// sendHeldLocked is sendHeld for a caller that holds tx.mu.
func (q *queuePair) sendHeldLocked() {
	if q.held.Load() && q.State() == transport.StateRTS {
		q.trySend(false)
	}
}

// takeControl copies the FPDUs that precede all others to b, which has room for them. The caller
// holds tx.mu.
func (q *queuePair) takeControl(b []byte) (n int) {
	t := &q.tx
	n = t.control.take(b)
	t.control = nil
	if q.held.Load() {
		q.held.Store(false)
		if !t.prompt {
			q.awaitNudge()
		}
	}
	return n
}

// answer sends the reply to req and brings q to StateRTS.
func (q *queuePair) answer(ctx context.Context, req *mpa.Frame, private []byte) error {
	reply, ird, ord, err := q.replyTo(req, private)
	if err != nil {
		return err
	}
	c := q.sock.c
	x := setup.Begin(ctx, c, q.cfg.ReplyTimeout)
	if err := x.End(writeFrame(c, &reply)); err != nil {
		return err
	}
	q.revision = reply.Revision
	q.configure((req.Flags|reply.Flags)&mpa.FlagCRC != 0 && !q.waived, ird, ord, false)
	return q.start()
}

func (q *queuePair) replyTo(req *mpa.Frame, private []byte) (reply mpa.Frame, ird, ord int, err error) {
	reply = mpa.Frame{Reply: true, Revision: req.Revision, Flags: req.Flags & (mpa.FlagEnhanced | mpa.FlagCRC), PrivateData: private}
	switch {
	case q.waived: // although the request must ask for it
		reply.Flags &^= mpa.FlagCRC
	case !q.Opts.NoCRC:
		reply.Flags |= mpa.FlagCRC
	}
	ird, ord = int(q.Opts.IRD), int(q.Opts.ORD)
	if req.Flags&mpa.FlagEnhanced == 0 {
		return reply, ird, ord, nil
	}
	e := req.Enhanced
	want := e.ORD
	if want != mpa.NoDepth {
		want = min(want, max(maxReads, depth(ird))) // the reply tells the peer to lower it
	}
	if ird, ord, err = negotiate(ird, ord, e.IRD, want); err != nil {
		return reply, 0, 0, err
	}
	reply.Enhanced = mpa.Enhanced{IRD: depth(ird), ORD: depth(ord), PeerToPeer: e.PeerToPeer}
	if e.PeerToPeer {
		// A peer that offers only one form insists on it; none at all means the Write.
		reply.Enhanced.RTRWrite = e.RTRWrite || !e.RTRRead
		reply.Enhanced.RTRRead = !reply.Enhanced.RTRWrite
		if reply.Enhanced.RTRRead {
			ird = max(ird, 1)
			reply.Enhanced.IRD = depth(ird)
		}
	}
	// A depth that is not negotiated is answered by the same.
	if e.IRD == mpa.NoDepth {
		reply.Enhanced.ORD = mpa.NoDepth
	}
	if e.ORD == mpa.NoDepth {
		reply.Enhanced.IRD = mpa.NoDepth
	}
	return reply, ird, ord, nil
}

// rejectFrame returns the refusal of a request. It keeps the form of the request so that any peer
// can read it.
func rejectFrame(req *mpa.Frame, private []byte) mpa.Frame {
	f := mpa.Frame{Reply: true, Revision: req.Revision, Flags: mpa.FlagReject | req.Flags&(mpa.FlagEnhanced|mpa.FlagCRC), PrivateData: private}
	if f.Revision != mpa.Rev1 && f.Revision != mpa.Rev2 {
		f.Revision, f.Flags = mpa.Rev1, mpa.FlagReject
	}
	return f
}

// isReset reports whether the peer hung up on a request in the way that asks for revision 1.
func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || isPlatformReset(err)
}
