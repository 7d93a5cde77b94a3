package soft

import (
	"errors"
	"math"
	"net"
	"net/netip"
	"os"
	"sync/atomic"

	"github.com/rdmanet/iwarp/internal/frames"
	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/internal/work"
	"github.com/rdmanet/iwarp/transport/soft/internal/mpa"
)

// A queuePair is one end of an iWARP connection over a kernel TCP connection.
//
// Locks, in the order in which they may be taken: the crew's token, tx.token, tx.mu, background.mu,
// Regions, Mu, sock.mu. The sockets are only ever used without blocking under tx.mu.
type queuePair struct {
	work.Pair
	cfg  *Config
	sock sock

	rx receiver // belongs to who has the token of Crew, as does the right to read the socket; start puts it there
	tx transmitter

	arrived atomic.Uint32 // FPDUs
	early   atomic.Bool   // something has come with the MPA reply that nobody has looked at
	held    atomic.Bool   // the RTR frame waits for something to be sent with; changed with tx.mu held
	awaited atomic.Bool   // WillAwaitClosed was called, and AwaitClosed has not given up

	background background
	trace      atomic.Pointer[frames.Trace] // that frames go to; mostly nil
	sockClosed bool                         // guarded by sock.mu

	// Guarded by Mu.
	crc       bool
	initiator bool
	waived    bool   // WaiveCRC was called before the set-up was over
	farewell  bool   // LeaveEndToPeer was called
	deafens   bool   // LeaveRest was called
	revision  uint8  // of MPA
	closeErr  *error // why something was lost after Close; nil if nothing was
}

var (
	_ transport.QueuePair        = (*queuePair)(nil)
	_ transport.PlacerRegistrar  = (*queuePair)(nil)
	_ transport.WordReceiver     = (*queuePair)(nil)
	_ transport.Looker           = (*queuePair)(nil)
	_ transport.NowWriter        = (*queuePair)(nil)
	_ transport.CompletionTeller = (*queuePair)(nil)
	_ transport.EarlySender      = (*queuePair)(nil)
	_ transport.HostProver       = (*queuePair)(nil)
	_ transport.Terminator       = (*queuePair)(nil)
	_ transport.LastCloser       = (*queuePair)(nil)
	_ transport.EndLeaver        = (*queuePair)(nil)
	_ transport.RestLeaver       = (*queuePair)(nil)
	_ transport.CloseAwaiter     = (*queuePair)(nil)
	_ transport.KeepAliver       = (*queuePair)(nil)
	_ transport.NoDelayer        = (*queuePair)(nil)
	_ transport.Bufferer         = (*queuePair)(nil)
)

func newQueuePair(c *net.TCPConn, cfg *Config, o *transport.Options) (*queuePair, error) {
	q := &queuePair{cfg: cfg}
	q.Init(q, o)
	q.Crew.Give(&q.tx.token)
	q.Opts.NoCRC = (q.Opts.NoCRC || cfg.NoCRC) && !cfg.AlwaysCRC
	q.tx.sendMSN, q.tx.readMSN = 1, 1
	q.rx.init()
	q.initPlatform()
	return q, q.use(c)
}

// reconnect makes c the connection below, in place of one that failed before it was up.
func (q *queuePair) reconnect(c *net.TCPConn) error {
	q.Mu.Lock()
	defer q.Mu.Unlock()
	err := q.Ended()
	if err == nil {
		err = q.use(c)
	}
	if err != nil {
		_ = c.Close()
	}
	return err
}

// configure takes over what was negotiated. gate is true if this end may send at once.
func (q *queuePair) configure(crc bool, ird, ord int, gate bool) {
	q.tx.mu.Lock()
	q.tx.gateOpen = gate
	q.tx.crc = crc
	q.tx.ord = int16(ord)
	q.tx.mu.Unlock()
	q.rx.crc = crc
	q.Mu.Lock()
	q.crc, q.rx.ird, q.initiator = crc, int16(ird), gate
	q.Mu.Unlock()
}

var errBegun = errors.New("the connection is set up already")

// mayBegin returns why no frame of the set-up may be sent, or nil.
func (q *queuePair) mayBegin() error {
	switch q.State() {
	case transport.StateIdle:
		return nil
	case transport.StateRTS:
		return errBegun
	}
	return q.Err()
}

// start brings the queue pair to StateRTS.
func (q *queuePair) start() error {
	q.sock.resetDeadlines()
	if err := q.EnterRTS(); err != nil {
		return err
	}
	q.giveRx()
	q.serveExposed()
	return nil
}

// RegionsChanged implements regions.Owner.
func (q *queuePair) RegionsChanged() { q.serveExposed() }

// RegionRevoked implements regions.Owner.
func (q *queuePair) RegionRevoked() { q.keepOutput() }

// fail ends the queue pair with err, unless it has ended already, and wakes everybody.
func (q *queuePair) fail(state transport.State, err error) {
	q.End(state, err)
	q.sock.kick()
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
	q.stopSending()
}

// Attributes implements transport.QueuePair.
func (q *queuePair) Attributes() transport.Attributes {
	q.tx.mu.Lock()
	if q.Healthy() {
		q.knowMSS()
	}
	maxULPDU, ord := int(q.tx.maxULPDU), int(q.tx.ord)
	q.tx.mu.Unlock()
	q.Mu.Lock()
	defer q.Mu.Unlock()
	return transport.Attributes{
		Device: deviceName, IRD: int(q.rx.ird), ORD: ord, CRC: q.crc, MPARevision: int(q.revision),
		MaxSegment: mpa.FPDULen(maxULPDU), MaxRecvSeg: mpa.MaxFPDULen,
		MaxInline: min(work.MaxMessage, math.MaxInt), SendDepth: int(q.Opts.SendDepth), RecvDepth: int(q.Opts.RecvDepth),
	}
}

// LocalAddr implements transport.QueuePair. It stays valid after Close.
func (q *queuePair) LocalAddr() netip.AddrPort {
	local, _ := q.sock.addrs()
	return local
}

// RemoteAddr implements transport.QueuePair. It stays valid after Close.
func (q *queuePair) RemoteAddr() netip.AddrPort {
	_, remote := q.sock.addrs()
	return remote
}

var errSegment = errors.New("segment size is out of range; use 1024 to 65544 bytes")

// SetMaxSegment implements transport.QueuePair. FPDUs are no longer aligned with TCP segments
// afterwards.
func (q *queuePair) SetMaxSegment(n int) error {
	if n < 1024 || n > mpa.MaxFPDULen {
		return errSegment
	}
	q.tx.mu.Lock()
	q.tx.useLarge(n)
	q.tx.mu.Unlock()
	return nil
}

// Interrupt implements transport.QueuePair.
func (q *queuePair) Interrupt() {
	q.Pair.Interrupt()
	q.sock.kick()
}

func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
