package rdmanet

import (
	"errors"
	"math"
	"time"

	"github.com/rdmanet/iwarp/internal/statpage"
	"github.com/rdmanet/iwarp/transport"
)

// Stats says what a connection has done, and what it waits for. Numbers of bytes are those of the
// stream; what is written to exposed memory is not among them.
type Stats struct {
	State string    // "established", "write-closed", "peer-finished", "closing", "closed" or "failed"
	Since time.Time // when the connection was set up

	BytesIn, BytesOut       uint64 // that have arrived here, and that were handed to the transport
	MessagesIn, MessagesOut uint64 // in which they did; of a peer that places in memory by itself, as announced

	Unread   uint64 // bytes that have arrived and that nobody has read yet
	RingSize uint64 // bytes that may be unread
	Space    uint64 // bytes that the peer has space for at present
	Credits  uint64 // messages that the peer takes at present; 0 for one that does not count them

	// Blocked is for how long in all Writes have waited for the peer to make space, and BlockedTimes
	// how often. BlockedSince is when the Write began to wait that waits now; the zero time means
	// that none does.
	Blocked      time.Duration
	BlockedTimes uint64
	BlockedSince time.Time

	MaxSegment  int  // bytes of the largest FPDU sent
	CRC         bool // both directions carry CRC32C
	MPARevision int  // 1 or 2; 0 where there is no MPA, or it is not known
	IRD, ORD    int  // limits of inbound and outbound RDMA Reads, at most 255
	Extended    bool // the peer is of this package

	Failure error // what ended the connection, nil while nothing has
}

// Stats returns what the connection has done so far or, after Close, what it had done by then. The
// numbers are not all of the same moment.
func (c *Conn) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	var e statpage.Entry
	switch {
	case c.after != nil && c.after.final != nil:
		e = c.after.final.Entry()
	case c.stats != nil:
		e = c.stats.Words().Entry()
	}
	f := e.Flow()
	s := Stats{
		State: c.state().String(), Since: e.Since,
		BytesIn: f.BytesIn, BytesOut: f.BytesOut, MessagesIn: f.MessagesIn, MessagesOut: f.MessagesOut,
		Unread: f.Unread, RingSize: f.Ring, Space: f.Space, Credits: f.Credits,
		Blocked: f.Blocked, BlockedTimes: f.BlockedTimes, BlockedSince: f.BlockedSince,
		MaxSegment: int(f.Segment), CRC: e.Flags&statpage.FlagCRC != 0, MPARevision: int(e.Revision), IRD: int(e.IRD), ORD: int(e.ORD),
		Extended: c.extended, Failure: c.err(),
	}
	if s.Failure == nil {
		s.Failure = c.sendErr()
	}
	return s
}

// publish gives the connection a record, for itself and for others.
func (c *Conn) publish(accepted bool) {
	a := c.qp.Attributes()
	t := statpage.Traits{
		Since: time.Now(), Local: c.qp.LocalAddr(), Remote: c.qp.RemoteAddr(), Device: a.Device, Revision: uint8(a.MPARevision),
		IRD: uint8(min(a.IRD, math.MaxUint8)), ORD: uint8(min(a.ORD, math.MaxUint8)), Flags: traits(accepted, a, c.extended),
	}
	s := statpage.OpenConn(&t)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stats = s
	s.SetRing(c.ring.Size)
	s.SetSegment(a.MaxSegment)
	s.Given(c.out.Space(), c.out.Credits())
	c.showState()
}

func traits(accepted bool, a transport.Attributes, extended bool) (flags uint16) {
	for _, f := range [...]struct {
		flag uint16
		set  bool
	}{
		{statpage.FlagAccepted, accepted}, {statpage.FlagCRC, a.CRC}, {statpage.FlagExtended, extended}, {statpage.FlagImmediate, a.Immediate},
	} {
		if f.set {
			flags |= f.flag
		}
	}
	return flags
}

// showSegment records the size of the largest FPDU.
func (c *Conn) showSegment() {
	n := c.qp.Attributes().MaxSegment
	c.mu.Lock()
	c.stats.SetSegment(n)
	c.mu.Unlock()
}

// withdraw takes the record away once the connection is closed. The caller holds mu.
func (c *Conn) withdraw() {
	if c.stats == nil {
		return
	}
	c.aftermath().final = c.stats.Sum()
	c.stats.Free()
	c.stats = nil
}

// state returns how far the connection is. The caller holds mu.
func (c *Conn) state() statpage.State {
	switch {
	case c.closed:
		return statpage.Closed
	case c.own.finished() && c.peer.finished():
		return statpage.BothFinished
	case c.peer.finished():
		return statpage.PeerFinished
	case c.err() != nil || c.sendErr() != nil:
		return statpage.Failed
	case c.own.finished():
		return statpage.WriteClosed
	}
	return statpage.Established
}

// showState records how far the connection is. The caller holds mu.
func (c *Conn) showState() {
	if c.stats == nil {
		return
	}
	state := c.state()
	if state != statpage.Failed {
		c.stats.SetState(state, 0)
		return
	}
	err := c.err()
	if err == nil {
		err = c.sendErr()
	}
	var t *transport.TerminateError
	var code uint16
	if errors.As(err, &t) {
		code = uint16(t.Layer&15)<<12 | uint16(t.Type&15)<<8 | uint16(t.Code)
	}
	c.stats.SetState(state, code)
	what := statpage.Traits{Text: err.Error(), Flags: statpage.FlagFailed}
	switch {
	case t == nil:
	case t.Local:
		what.Flags |= statpage.FlagTermSent
	default:
		what.Flags |= statpage.FlagTermReceived
	}
	c.stats.Amend(&what)
	if tell := statpage.OnFailure.Load(); tell != nil && !c.failureTold {
		c.failureTold = true
		go (*tell)(c, err)
	}
}

func init() {
	statpage.StreamClosed = func(conn any) bool {
		c, ok := conn.(*Conn)
		return ok && c.calls.over()
	}
	statpage.OfStream = func(conn any, f func(*statpage.Conn)) {
		c, ok := conn.(*Conn)
		if !ok {
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.stats != nil {
			f(c.stats)
		}
	}
}
