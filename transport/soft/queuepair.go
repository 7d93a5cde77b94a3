package soft

import (
	"errors"
	"math"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/internal/queue"
	"github.com/rdmanet/iwarp/transport/internal/regions"
	"github.com/rdmanet/iwarp/transport/internal/wait"
	"github.com/rdmanet/iwarp/transport/soft/internal/mpa"
)

// A queuePair is one end of an iWARP connection over a kernel TCP connection.
//
// Locks, in the order in which they may be taken: rxTok, txTok, tx.mu, background.mu, regions,
// mu, sock.mu. The sockets are only ever used without blocking under tx.mu.
type queuePair struct {
	cfg  Config
	opts transport.Options
	sock *sock

	regions regions.Table

	rxTok chan struct{} // its one token is the right to read the socket and to use rx; start puts it there
	rx    receiver
	txTok chan struct{} // its one token is the right to block until the socket takes more
	tx    transmitter

	waiting, draining wait.Condition // of Wait and of Drain
	crew              wait.Crew

	// Summaries of what mu guards, for those who look often. They change with mu held.
	healthy    atomic.Bool   // in StateRTS
	news       atomic.Bool   // cq is not empty
	placed     atomic.Bool   // a Placer had news that no call of Wait has returned for
	arrived    atomic.Uint32 // FPDUs
	background background
	farewell   atomic.Bool // LeaveEndToPeer was called
	deafens    atomic.Bool // LeaveRest was called
	awaited    atomic.Bool // WillAwaitClosed was called, and AwaitClosed has not given up

	mu        sync.Mutex
	state     transport.State
	err       error // why the queue pair is no longer in StateRTS
	cq        queue.Completions
	rq        queue.Receives[*regions.Region]
	ird, ord  int
	crc       bool
	connected bool // RTS was reached
	closed    bool // Close or Abort was called
	leaving   bool // there is a parting; the send queue is not flushed meanwhile
	closeErr  error
}

var (
	_ transport.QueuePair       = (*queuePair)(nil)
	_ transport.PlacerRegistrar = (*queuePair)(nil)
	_ transport.Looker          = (*queuePair)(nil)
	_ transport.EarlySender     = (*queuePair)(nil)
	_ transport.Terminator      = (*queuePair)(nil)
	_ transport.LastCloser      = (*queuePair)(nil)
	_ transport.EndLeaver       = (*queuePair)(nil)
	_ transport.RestLeaver      = (*queuePair)(nil)
	_ transport.CloseAwaiter    = (*queuePair)(nil)
	_ transport.KeepAliver      = (*queuePair)(nil)
	_ transport.NoDelayer       = (*queuePair)(nil)
	_ transport.Bufferer        = (*queuePair)(nil)
)

func newQueuePair(c *net.TCPConn, cfg *Config, o *transport.Options) (*queuePair, error) {
	q := &queuePair{
		cfg:   *cfg,
		opts:  normalize(o, cfg),
		rxTok: make(chan struct{}, 1),
		txTok: make(chan struct{}, 1),
	}
	q.txTok <- struct{}{}
	q.crew.Init(q, q.rxTok, &q.mu)
	q.waiting.Holds, q.draining.Holds = q.pollable, q.drained
	q.regions.Changed, q.regions.Revoked = q.serveExposed, q.keepOutput
	q.tx.sendMSN, q.tx.readMSN = 1, 1
	q.rx.init()
	q.sock = &sock{onReadable: q.fillStaging, onWritable: q.transmitOn}
	q.sock.platform.init(q.sock)
	return q, q.sock.use(c)
}

// reconnect makes c the connection below, in place of one that failed before it was up.
func (q *queuePair) reconnect(c *net.TCPConn) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	err := q.err
	if err == nil {
		err = q.sock.use(c)
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
	q.tx.maxOutstanding = ord
	q.tx.useMSS(q.sock.mss())
	q.tx.mu.Unlock()
	q.rx.crc, q.rx.ird = crc, ird
	q.mu.Lock()
	q.crc, q.ird, q.ord = crc, ird, ord
	q.mu.Unlock()
}

// start brings the queue pair to StateRTS.
func (q *queuePair) start() error {
	q.sock.resetDeadlines()
	q.mu.Lock()
	if q.err != nil {
		defer q.mu.Unlock()
		return q.err
	}
	q.state, q.connected = transport.StateRTS, true
	q.healthy.Store(true)
	q.mu.Unlock()
	q.rxTok <- struct{}{}
	q.serveExposed()
	return nil
}

// fail ends the queue pair with err, unless it has ended already, and wakes everybody.
func (q *queuePair) fail(state transport.State, err error) {
	q.mu.Lock()
	q.end(state, err)
	q.crew.Wake()
	q.mu.Unlock()
	q.sock.kick()
}

// end records why the queue pair leaves StateRTS, unless it already has. The caller holds mu.
func (q *queuePair) end(state transport.State, err error) {
	if q.err == nil {
		q.state, q.err = state, err
		q.healthy.Store(false)
	}
}

// complete queues a completion. The caller holds mu.
func (q *queuePair) complete(c transport.Completion) {
	q.cq.Push(c)
	q.news.Store(true)
	q.crew.Wake()
}

// collect moves completions to wc. The caller holds mu.
func (q *queuePair) collect(wc []transport.Completion) int {
	n := q.cq.Pop(wc)
	q.news.Store(q.cq.Len() > 0)
	return n
}

// PostRecv implements transport.QueuePair.
func (q *queuePair) PostRecv(wrs []transport.RecvWR) (int, error) {
	q.regions.RLock()
	defer q.regions.RUnlock()
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != nil {
		return 0, q.err
	}
	var live *regions.Region // the last one that was looked up
	for i := range wrs {
		if q.rq.Len() == q.opts.RecvDepth {
			return i, transport.ErrQueueFull
		}
		r, _ := wrs[i].Region.(*regions.Region)
		if r == nil || r != live && !q.regions.Live(r) || r.Access&transport.LocalWrite == 0 {
			return i, errNoLocalRegion
		}
		live = r
		if _, ok := r.Offset(wrs[i].Data); !ok && len(wrs[i].Data) > 0 {
			return i, errNotInRegion
		}
		q.rq.Push(&wrs[i], r)
	}
	return len(wrs), nil
}

// Poll implements transport.QueuePair.
func (q *queuePair) Poll(wc []transport.Completion) int {
	if !q.news.Load() && q.healthy.Load() {
		return 0
	}
	q.mu.Lock()
	n, failed, leaving := q.collect(wc), q.err != nil, q.leaving
	q.mu.Unlock()
	if n > 0 || !failed {
		return n
	}
	if !leaving {
		q.tx.mu.Lock()
		q.stopSending()
		q.tx.mu.Unlock()
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	n = q.collect(wc)
	for n < len(wc) {
		r := q.rq.Head()
		if r == nil {
			break
		}
		id := r.ID
		q.rq.Pop()
		wc[n] = transport.Completion{ID: id, Opcode: transport.OpRecv, Status: transport.StatusFlushed}
		n++
	}
	return n
}

// pollable reports whether Poll would return something or a Placer had news, and otherwise why that
// will never happen again.
func (q *queuePair) pollable() (bool, error) {
	if q.news.Load() || q.placed.Load() {
		return true, nil
	}
	if q.healthy.Load() {
		return false, nil
	}
	q.mu.Lock()
	if q.cq.Len() > 0 || q.err != nil && q.rq.Len() > 0 {
		q.mu.Unlock()
		return true, nil
	}
	err := q.err
	q.mu.Unlock()
	if err == nil {
		return false, nil
	}
	// Whoever ends the queue pair by a Terminate flushes the send queue before the lock is free.
	q.tx.mu.Lock()
	pending := q.tx.sq.len > 0
	q.tx.mu.Unlock()
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.cq.Len() > 0 || pending && !q.leaving {
		return true, nil
	}
	return false, err
}

// Attributes implements transport.QueuePair.
func (q *queuePair) Attributes() transport.Attributes {
	q.tx.mu.Lock()
	maxULPDU := q.tx.maxULPDU
	q.tx.mu.Unlock()
	q.mu.Lock()
	defer q.mu.Unlock()
	return transport.Attributes{
		Device: deviceName, IRD: q.ird, ORD: q.ord, CRC: q.crc,
		MaxSegment: mpa.FPDULen(maxULPDU), MaxRecvSeg: mpa.MaxFPDULen,
		MaxInline: min(maxMessage, math.MaxInt), SendDepth: q.opts.SendDepth, RecvDepth: q.opts.RecvDepth,
	}
}

// State implements transport.QueuePair.
func (q *queuePair) State() transport.State {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.state
}

// Err implements transport.QueuePair.
func (q *queuePair) Err() error {
	if q.healthy.Load() {
		return nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.err
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

// RegisterMemory implements transport.QueuePair.
func (q *queuePair) RegisterMemory(b []byte, access transport.Access) (transport.MemoryRegion, error) {
	return q.register(&regions.Region{Access: access, Length: uint64(len(b)), Mem: b})
}

// RegisterPlacer implements transport.PlacerRegistrar.
func (q *queuePair) RegisterPlacer(length uint64, p transport.Placer) (transport.MemoryRegion, error) {
	return q.register(&regions.Region{Access: transport.RemoteWrite | transport.CallerDriven, Length: length, Placer: p})
}

func (q *queuePair) register(r *regions.Region) (transport.MemoryRegion, error) {
	if err := q.Err(); err != nil {
		return nil, err
	}
	if err := q.regions.Add(r); err != nil {
		return nil, err
	}
	return r, nil
}

// Interrupt implements transport.QueuePair.
func (q *queuePair) Interrupt() {
	q.waiting.Interrupt()
	q.draining.Interrupt()
	q.mu.Lock()
	q.crew.Wake()
	q.mu.Unlock()
	q.sock.kick()
}

func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
