package shm

import (
	"errors"
	"math"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/internal/wait"
	"github.com/rdmanet/iwarp/transport/internal/work"
)

const deviceName = transportName

// A queuePair is one end of a connection through shared memory.
//
// Locks, in the order in which they may be taken: the crew's token, tx.mu, background.mu, Regions,
// Mu. The segments are mapped from start to finish: whoever uses in holds the token, whoever uses
// tx.out holds the token or tx.mu.
type queuePair struct {
	work.Pair
	t             *Transport
	local, remote netip.AddrPort
	cred          unix.Ucred // of the peer
	kin           bool       // the peer is of our own user or root; not known before the start
	leads         bool       // this is the client, which chooses how both ends wait
	sock          *net.UnixConn
	raw           syscall.RawConn
	ringBell      func(fd uintptr)
	self          user      // that the peer knows this process as
	made          time.Time // when sock was
	mostBells     uint32    // that may be unread on sock
	keeps         bool      // what the connection has may serve for another
	site          site      // that a client has dialed
	holdsPort     bool      // it is a client that has taken its port itself
	home          *listener // of a server
	wide          bool      // more than the first page of the peer's memory was used by connections before

	in    *segment
	rx    receiver
	sleep sleeper
	watched
	tx transmitter

	tending, parting wait.Condition // of the background, and of what Close leaves
	background       background

	// Guarded by Mu.
	kept     *link // that the connection is to have; nil without one, and once it was asked for
	ird, ord int

	gone *departure
}

var (
	_ transport.QueuePair       = (*queuePair)(nil)
	_ transport.PlacerRegistrar = (*queuePair)(nil)
	_ transport.Leaver          = (*queuePair)(nil)
	_ transport.Forgoer         = (*queuePair)(nil)
	_ transport.LastCloser      = (*queuePair)(nil)
	_ transport.Looker          = (*queuePair)(nil)
	_ transport.DrainTeller     = (*queuePair)(nil)
	_ transport.NowWriter       = (*queuePair)(nil)
	_ transport.EarlySender     = (*queuePair)(nil)
	_ transport.Terminator      = (*queuePair)(nil)
	_ transport.KeepAliver      = (*queuePair)(nil)
	_ transport.NoDelayer       = (*queuePair)(nil)
	_ transport.PeerIdentifier  = (*queuePair)(nil)
)

// bellByte is what is sent to an end that sleeps. What it is does not matter.
var bellByte = []byte{1}

func newQueuePair(sock *net.UnixConn, t *Transport, o *transport.Options) (*queuePair, error) {
	q := newEnd(t, o)
	if err := q.use(sock); err != nil {
		return nil, err
	}
	return q, nil
}

// newEnd makes a queue pair that has no socket yet.
func newEnd(t *Transport, o *transport.Options) *queuePair {
	q := &queuePair{t: t, gone: new(departure)}
	q.ringBell = func(fd uintptr) {
		// A peer on whose socket there is no room for a byte does not read them, which is its own
		// fault.
		_ = unix.Send(int(fd), bellByte, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	}
	q.Init(q, o)
	q.sleep.init(q)
	return q
}

// use makes sock the socket to the peer, which is not up yet.
func (q *queuePair) use(sock *net.UnixConn) error {
	raw, err := sock.SyscallConn()
	if err != nil {
		return err
	}
	cred, err := peerCred(raw)
	if err != nil {
		return err
	}
	room := 0
	_ = raw.Control(func(fd uintptr) { room, _ = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF) })
	q.sock, q.raw, q.cred, q.self, q.made, q.mostBells = sock, raw, cred, thisUser(), time.Now(), bellsOn(room)
	return nil
}

// RegionsChanged implements regions.Owner.
func (q *queuePair) RegionsChanged() { q.tend() }

// RegionRevoked implements regions.Owner. What is to be sent is not kept in regions.
func (q *queuePair) RegionRevoked() {}

// start brings the queue pair to StateRTS. It takes the segments over, even with an error.
func (q *queuePair) start(in, out *segment, ird, ord int) error {
	_ = q.sock.SetDeadline(time.Time{})
	q.tx.mu.Lock()
	q.in, q.tx.out, q.tx.maxOutstanding, q.rx.ird = in, out, ord, ird
	q.kin = isKin(q.cred.Uid)
	q.Mu.Lock()
	q.ird, q.ord = ird, ord
	q.Mu.Unlock()
	err := q.EnterRTS()
	if err != nil {
		q.in, q.tx.out = nil, nil
	}
	q.tx.mu.Unlock()
	if err != nil {
		in.close()
		out.close()
		return err
	}
	if q.wide {
		q.tx.mu.Lock()
		q.spread()
		q.tx.mu.Unlock()
	}
	watch.add(q)
	q.Crew.Give(&q.Crew.Token)
	q.tend()
	return nil
}

// isKin reports whether a user has power over this process anyway. Users that are not known in this
// user namespace look like one.
func isKin(uid uint32) bool {
	return uid == 0 || uid == uint32(os.Geteuid()) && uid != overflowUID()
}

// fail ends the queue pair with err, unless it has ended already, and wakes everybody.
func (q *queuePair) fail(state transport.State, err error) {
	q.End(state, err)
	q.tx.mu.Lock()
	q.stopSending(err)
	q.tx.mu.Unlock()
	q.kick()
}

// SendsLeft implements work.Driver.
func (q *queuePair) SendsLeft() bool {
	q.tx.mu.Lock()
	defer q.tx.mu.Unlock()
	return q.tx.sq.Len() > 0
}

// FlushSends implements work.Driver.
func (q *queuePair) FlushSends() {
	q.tx.mu.Lock()
	defer q.tx.mu.Unlock()
	q.flushSends()
}

// Attributes implements transport.QueuePair. There are no FPDUs.
func (q *queuePair) Attributes() transport.Attributes {
	q.Mu.Lock()
	defer q.Mu.Unlock()
	return transport.Attributes{
		Device: deviceName, IRD: q.ird, ORD: q.ord, MaxInline: min(work.MaxMessage, math.MaxInt),
		SendDepth: int(q.Opts.SendDepth), RecvDepth: int(q.Opts.RecvDepth),
	}
}

// LocalAddr implements transport.QueuePair.
func (q *queuePair) LocalAddr() netip.AddrPort { return q.local }

// RemoteAddr implements transport.QueuePair.
func (q *queuePair) RemoteAddr() netip.AddrPort { return q.remote }

// PeerCredentials implements transport.PeerIdentifier.
func (q *queuePair) PeerCredentials() (uid, gid uint32) {
	q.Mu.Lock()
	defer q.Mu.Unlock()
	return q.cred.Uid, q.cred.Gid
}

// SetMaxSegment implements transport.QueuePair.
func (q *queuePair) SetMaxSegment(int) error { return errors.ErrUnsupported }

// SetNoDelay has nothing to do for true, which is how it is.
func (q *queuePair) SetNoDelay(noDelay bool) error {
	if noDelay {
		return nil
	}
	return errors.ErrUnsupported
}

// SetKeepAliveConfig has nothing to do: the kernel reports at once when the peer is gone.
func (q *queuePair) SetKeepAliveConfig(net.KeepAliveConfig) error { return nil }

// PeerMaySend reports that a responder need not wait for the initiator.
func (q *queuePair) PeerMaySend() bool { return true }

// Interrupt implements transport.QueuePair.
func (q *queuePair) Interrupt() {
	q.Pair.Interrupt()
	q.kick()
}

func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
