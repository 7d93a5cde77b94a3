package iwarp

import (
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/rdmanet/iwarp/internal/frames"
	"github.com/rdmanet/iwarp/internal/netaddr"
	"github.com/rdmanet/iwarp/internal/redirect"
	"github.com/rdmanet/iwarp/internal/statpage"
	"github.com/rdmanet/iwarp/internal/tcpinfo"
	"github.com/rdmanet/iwarp/rdmanet"
)

// ListenerStats counts what became of the connections of a Listener.
type ListenerStats struct {
	PlainTCP uint64 // identified as plain TCP, or taken for it
	IWARP    uint64 // iWARP connections set up, over the kernel's TCP or a device

	Silent          uint64 // of PlainTCP: those silent for FirstByteTimeout, or cut short by the bound on half-open connections
	Redirected      uint64 // iWARP clients sent on to the port where a device listens
	Refused         uint64 // plain TCP closed because of OffloadRequire or OffloadDevice
	HandshakeFailed uint64 // dropped: the MPA request was bad or not completed in time, or the set-up failed
	Overflowed      uint64 // half-open connections cut short, and devices' clients refused, because there were too many at once

	Limited uint64 // clients reset or refused because of MaxConnsPerPeer or MaxConnRatePerPeer

	HalfOpen int // connections at present that Accept has taken and that are not identified yet
	Ready    int // connections at present that are identified and wait for the next Accept
}

// counters are those of a Listener, where others can read them.
type counters struct {
	page *statpage.Listener

	plain, iwarp, silent, redirected, refused, failed, overflowed, limited *atomic.Uint64
}

func newCounters(addr net.Addr, policy Offload) counters {
	p := statpage.OpenListener(&statpage.Traits{Since: time.Now(), Local: netaddr.Of(addr), Policy: uint8(policy)})
	return counters{
		page: p, plain: p.Count(statpage.PlainTCP), iwarp: p.Count(statpage.IWARP), silent: p.Count(statpage.Silent),
		redirected: p.Count(statpage.Redirected), refused: p.Count(statpage.Refused), failed: p.Count(statpage.HandshakeFailed),
		overflowed: p.Count(statpage.Overflowed), limited: p.Count(statpage.Limited),
	}
}

// show records how far the listener is.
func (c *counters) show(s listenerState) {
	states := [...]statpage.State{statpage.Listening, statpage.Draining, statpage.ListenerClosed}
	c.page.SetState(states[s], 0)
}

// Stats returns the current counts. They do not include clients in the kernel's queue. With
// OffloadNever only PlainTCP is counted.
func (l *Listener) Stats() ListenerStats {
	if !l.ok() {
		return ListenerStats{}
	}
	c := &l.counters
	l.mu.Lock()
	ready := len(l.ready)
	l.mu.Unlock()
	return ListenerStats{
		PlainTCP: c.plain.Load(), IWARP: c.iwarp.Load(), Silent: c.silent.Load(), Redirected: c.redirected.Load(), Refused: c.refused.Load(),
		HandshakeFailed: c.failed.Load(), Overflowed: c.overflowed.Load(), Limited: c.limited.Load(),
		HalfOpen: l.half.len(), Ready: ready,
	}
}

// publishTCP gives a connection of plain TCP a record for others to see.
func (n *note) publishTCP(c net.Conn) *statpage.Conn {
	t := n.traits()
	t.Since, t.Local, t.Remote = time.Now(), netaddr.Of(c.LocalAddr()), netaddr.Of(c.RemoteAddr())
	return statpage.OpenConn(&t)
}

// publishStream tells others of an iWARP connection what rdmanet does not know.
func (n *note) publishStream(c *rdmanet.Conn) {
	statpage.OfStream(c, func(s *statpage.Conn) {
		t := n.traits()
		s.Amend(&t)
	})
}

func (n *note) traits() statpage.Traits {
	i := n.info
	t := statpage.Traits{Transport: i.Transport, Device: i.Device, Reason: uint8(i.Reason), Setup: n.took, Text: i.Reason.beyond(i.Err)}
	if n.accepted {
		t.Flags |= statpage.FlagAccepted
	}
	if i.Offloaded {
		t.Flags |= statpage.FlagOffloaded
	}
	var refused *redirect.Refused
	if i.Err != nil && errors.As(i.Err, &refused) {
		t.PeerReason = uint8(refused.Why) + 1
	}
	return t
}

// ConnStats is what is known of a connection.
type ConnStats struct {
	Info
	Local, Remote netip.AddrPort

	// Stats are those of the stream. For plain TCP only State, the bytes, the messages, which are TCP
	// segments with data, and MaxSegment, the MSS, are set, and only where the system tells, as Linux
	// does. They are what the kernel counts: what it has taken from Write but not sent, such as while
	// the peer takes nothing, is not in BytesOut, and what it holds for Read is in BytesIn.
	rdmanet.Stats

	RoundTrip     time.Duration // of plain TCP, smoothed; 0 if it is not known
	Retransmitted uint64        // segments of plain TCP
}

// Stats says what c has done. It knows the connections that Describe knows, and looks for them in
// the same way. After Close of plain TCP there is nothing but its addresses and Info.
func Stats(c net.Conn) (ConnStats, bool) {
	c, info, ok := find(c)
	if !ok {
		return ConnStats{}, false
	}
	return statsOf(c, info), true
}

func statsOf(c net.Conn, info Info) ConnStats {
	s := ConnStats{Info: info, Local: netaddr.Of(c.LocalAddr()), Remote: netaddr.Of(c.RemoteAddr())}
	switch c := c.(type) {
	case *rdmanet.Conn:
		s.Stats = c.Stats()
	case *net.TCPConn:
		t, ok := tcpinfo.Of(c)
		if !ok {
			s.State = statpage.Closed.String()
			return s
		}
		s.State = stateOfTCP(t.State).String()
		s.BytesIn, s.BytesOut, s.MessagesIn, s.MessagesOut = t.Received, t.Written, t.SegmentsIn, t.SegmentsOut
		s.MaxSegment, s.RoundTrip, s.Retransmitted = t.MSS, t.RoundTrip, t.Retransmitted
	}
	return s
}

// stateOfTCP translates the kernel's number of a state.
func stateOfTCP(state uint8) statpage.State {
	const established, finWait1, finWait2, closeWait = 1, 4, 5, 8
	switch state {
	case established:
		return statpage.Established
	case finWait1, finWait2:
		return statpage.WriteClosed
	case closeWait:
		return statpage.PeerFinished
	}
	return statpage.Closed
}

// ProcessStats is what Snapshot has found.
type ProcessStats struct {
	Conns     []ConnStats // that are open
	Listeners []ListenerSnapshot
	Ports     []PortInfo // of DefaultPortSpace

	// What follows counts for the process, since its first connection or listener, with what is gone.

	Setups     []SetupCount
	Failures   []SetupCount  // dials and handshakes; ReasonNone stands for errors of package net
	SetupTimes []SetupTimes  // four: of dials and accepts, over plain TCP and over all else
	Traffic    []Traffic     // over all but plain TCP, which the kernel counts
	Clients    ListenerStats // of all listeners, without HalfOpen and Ready
}

// ListenerSnapshot is what is known of a Listener.
type ListenerSnapshot struct {
	Addr          netip.AddrPort
	Policy        Offload
	State         string // "listening" or "draining"
	Since         time.Time
	ListenerStats // without HalfOpen and Ready
}

// A SetupCount is a number of connections that were set up in the same way, or that failed for the
// same Reason.
type SetupCount struct {
	Accepted  bool   // or else dialed
	Transport string // "tcp" for plain TCP, "other" for those that this module does not have; empty for failures
	Reason    Reason
	Count     uint64
}

// SetupTimes says how long set-ups took: a dial from its beginning, an accept from when the
// listener has taken the client. An accept of plain TCP has none.
type SetupTimes struct {
	Accepted bool // or else dialed
	PlainTCP bool

	// Counts has at i the set-ups that took less than 1 µs << i, and that the number before has not.
	// The last number has all that took longer.
	Counts []uint64
	Sum    time.Duration
}

// Traffic is what went over the connections of one transport. Its numbers never fall; those of a
// connection that is being closed may be missing until the next Snapshot.
type Traffic struct {
	Transport string // "other" for those that this module does not have

	BytesIn, BytesOut       uint64
	MessagesIn, MessagesOut uint64
	Blocked                 time.Duration // in which Writes have waited for the peer, without those that wait
	BlockedTimes            uint64

	Failed                             uint64 // connections that ended by a fault
	TerminatesSent, TerminatesReceived uint64 // of Failed: by an RDMAP Terminate
}

// Snapshot looks at all that this package has in the process; the command iwarpstat shows what
// others have. The numbers are not all of the same moment. It takes some microseconds for each
// connection of plain TCP.
func Snapshot() ProcessStats {
	var s ProcessStats
	known(func(c net.Conn, info Info) bool {
		if i := statsOf(c, info); i.State != statpage.Closed.String() {
			s.Conns = append(s.Conns, i)
		}
		return true
	})
	entries, totals := statpage.Survey()
	for _, e := range entries {
		switch {
		case e.Kind == statpage.KindListener && e.State != statpage.ListenerClosed:
			s.Listeners = append(s.Listeners, listenerOf(&e))
		case e.Kind == statpage.KindConn && e.Transport == "": // made by package rdmanet alone
			s.Conns = append(s.Conns, ConnStats{Info: Info{Device: e.Device}, Local: e.Local, Remote: e.Remote, Stats: streamStats(&e)})
		}
	}
	s.Ports = DefaultPortSpace.Reservations()
	tally := statpage.Own()
	s.Setups, s.Failures = setupsOf(&tally)
	s.SetupTimes = timesOf(&tally, &totals)
	s.Traffic = trafficOf(&totals)
	s.Clients = clientsOf(totals.Clients[:])
	return s
}

func streamStats(e *statpage.Entry) rdmanet.Stats {
	f := e.Flow()
	return rdmanet.Stats{
		State: e.State.String(), Since: e.Since,
		BytesIn: f.BytesIn, BytesOut: f.BytesOut, MessagesIn: f.MessagesIn, MessagesOut: f.MessagesOut,
		Unread: f.Unread, RingSize: f.Ring, Space: f.Space, Credits: f.Credits,
		Blocked: f.Blocked, BlockedTimes: f.BlockedTimes, BlockedSince: f.BlockedSince,
		MaxSegment: int(f.Segment), CRC: e.Flags&statpage.FlagCRC != 0, MPARevision: int(e.Revision), IRD: int(e.IRD), ORD: int(e.ORD),
		Extended: e.Flags&statpage.FlagExtended != 0,
	}
}

func listenerOf(e *statpage.Entry) ListenerSnapshot {
	n := e.Clients()
	return ListenerSnapshot{e.Local, Offload(e.Policy), e.State.OfListener(), e.Since, clientsOf(n[:])}
}

func clientsOf(n []uint64) ListenerStats {
	return ListenerStats{
		PlainTCP: n[statpage.PlainTCP], IWARP: n[statpage.IWARP], Silent: n[statpage.Silent], Redirected: n[statpage.Redirected],
		Refused: n[statpage.Refused], HandshakeFailed: n[statpage.HandshakeFailed], Overflowed: n[statpage.Overflowed],
		Limited: n[statpage.Limited],
	}
}

// countFailed counts a dial or a handshake that has failed.
func countFailed(d statpage.Direction, err error) {
	var why *OffloadError
	reason := ReasonNone
	if errors.As(err, &why) {
		reason = why.Reason
	} else if d == statpage.Accepted {
		reason = reasonOf(err)
	}
	statpage.Fail(d, uint8(reason))
}

func setupsOf(t *statpage.Tally) (setups, failures []SetupCount) {
	t.Each(func(accepted bool, path string, reason uint8, n uint64) {
		to := &setups
		if path == "" {
			to = &failures
		}
		*to = append(*to, SetupCount{accepted, path, Reason(reason), n})
	})
	return setups, failures
}

func timesOf(t *statpage.Tally, sums *statpage.Totals) (times []SetupTimes) {
	for d := range t.Times {
		for kind, counts := range t.Times[d] {
			times = append(times, SetupTimes{statpage.Direction(d) == statpage.Accepted, kind == 0, counts[:], sums.Took[d][kind]})
		}
	}
	return times
}

func trafficOf(t *statpage.Totals) (traffic []Traffic) {
	for path := range statpage.NumPaths {
		name := statpage.PathName(path)
		if name == "" || name == "tcp" {
			continue
		}
		c := t.Conns(path)
		traffic = append(traffic, Traffic{
			Transport: name, BytesIn: c.BytesIn, BytesOut: c.BytesOut, MessagesIn: c.MessagesIn, MessagesOut: c.MessagesOut,
			Blocked: c.Blocked, BlockedTimes: c.BlockedTimes,
			Failed: c.Failed, TerminatesSent: c.TerminatesSent, TerminatesReceived: c.TerminatesReceived,
		})
	}
	return traffic
}

func init() { frames.Find = findFrames }

// findFrames finds the frames of a connection by its addresses, for package debug.
func findFrames(local, remote netip.AddrPort) (source frames.Source, err error) {
	err = frames.ErrNotFound
	known(func(c net.Conn, info Info) bool {
		if netaddr.Of(c.LocalAddr()) != local || netaddr.Of(c.RemoteAddr()) != remote {
			return true
		}
		if _, plain := c.(*net.TCPConn); (tcpinfo.Told || !plain) && statsOf(c, info).State == statpage.Closed.String() {
			return true // and waits for the collector
		}
		switch source, err = frames.OfStream(c), nil; {
		case source != nil:
		case info.Transport == "tcp":
			err = frames.ErrPlain
		case info.Transport == "rnic":
			err = frames.ErrDevice
		default:
			err = frames.ErrNone
		}
		return source == nil // another one may have had the addresses before
	})
	return source, err
}
