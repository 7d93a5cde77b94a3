package shm

import (
	"errors"
	"math"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/internal/queue"
	"github.com/rdmanet/iwarp/transport/internal/regions"
	"github.com/rdmanet/iwarp/transport/internal/wait"
)

const deviceName = transportName

// A queuePair is one end of a connection through shared memory.
//
// Locks, in the order in which they may be taken: tok, tx.mu, background.mu, regions, mu. The
// segments are mapped from start to finish: whoever uses in holds tok, whoever uses tx.out holds
// tok or tx.mu.
type queuePair struct {
	cfg           Config
	opts          transport.Options
	local, remote netip.AddrPort
	cred          unix.Ucred // of the peer
	sock          *net.UnixConn
	raw           syscall.RawConn
	ringBell      func(fd uintptr)

	regions regions.Table

	tok   chan struct{} // its one token is the right to drive: to read in and to sleep
	in    *segment
	rx    receiver
	sleep sleeper
	watched
	tx transmitter

	waiting, draining, tending, parting wait.Condition // of Wait, of Drain, of the background, and of what Close leaves
	background                          background
	crew                                wait.Crew

	// Summaries of what mu guards, for those who look often. They change with mu held.
	healthy atomic.Bool // in StateRTS
	news    atomic.Bool // cq is not empty
	placed  atomic.Bool // a Placer had news that no call of Wait has returned for

	mu        sync.Mutex
	state     transport.State
	err       error // why the queue pair is no longer in StateRTS
	cq        queue.Completions
	rq        queue.Receives[*regions.Region]
	ird, ord  int
	connected bool // RTS was reached
	closed    bool // Close or Abort was called
	leaving   bool // Close goes on; the send queue is not flushed meanwhile
	isGone    bool
	gone      []func()
}

var (
	_ transport.QueuePair       = (*queuePair)(nil)
	_ transport.PlacerRegistrar = (*queuePair)(nil)
	_ transport.Leaver          = (*queuePair)(nil)
	_ transport.Looker          = (*queuePair)(nil)
	_ transport.EarlySender     = (*queuePair)(nil)
	_ transport.Terminator      = (*queuePair)(nil)
	_ transport.KeepAliver      = (*queuePair)(nil)
	_ transport.NoDelayer       = (*queuePair)(nil)
)

// bellByte is what is sent to an end that sleeps. What it is does not matter.
var bellByte = []byte{1}

func newQueuePair(sock *net.UnixConn, cfg *Config, o *transport.Options) (*queuePair, error) {
	raw, err := sock.SyscallConn()
	if err != nil {
		return nil, err
	}
	q := &queuePair{cfg: *cfg, opts: normalize(o), sock: sock, raw: raw, tok: make(chan struct{}, 1)}
	if q.cred, err = peerCred(raw); err != nil {
		return nil, err
	}
	q.ringBell = func(fd uintptr) {
		// Where there is no room for a byte the peer leaves its bytes unread, and has only itself
		// to blame.
		_ = unix.Send(int(fd), bellByte, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	}
	q.crew.Init(q, q.tok, &q.mu)
	q.sleep.init(q)
	q.waiting.Holds, q.draining.Holds, q.tending.Holds = q.pollable, q.drained, q.untended
	q.parting.Holds = func() (bool, error) { return false, nil }
	q.regions.Changed = q.tend
	return q, nil
}

// start brings the queue pair to StateRTS. It takes the segments over, even with an error.
func (q *queuePair) start(in, out *segment, ird, ord int) error {
	_ = q.sock.SetDeadline(time.Time{})
	q.tx.mu.Lock()
	q.mu.Lock()
	err := q.err
	if err == nil {
		q.in, q.tx.out, q.tx.maxOutstanding = in, out, ord
		q.rx.ird = ird
		q.ird, q.ord = ird, ord
		q.state, q.connected = transport.StateRTS, true
		q.healthy.Store(true)
	}
	q.mu.Unlock()
	q.tx.mu.Unlock()
	if err != nil {
		in.close()
		out.close()
		return err
	}
	watch.add(q)
	q.tok <- struct{}{}
	q.tend()
	return nil
}

// fail ends the queue pair with err, unless it has ended already, and wakes everybody.
func (q *queuePair) fail(state transport.State, err error) {
	q.mu.Lock()
	q.end(state, err)
	q.crew.Wake()
	q.mu.Unlock()
	q.tx.mu.Lock()
	if q.tx.err == nil {
		q.tx.err = err
	}
	q.flushSends()
	q.tx.mu.Unlock()
	q.kick()
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
		q.flushSends()
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

// pollable reports whether Poll would return something, or a Placer had news, and otherwise why
// that will never happen again.
func (q *queuePair) pollable() (bool, error) {
	if q.news.Load() || q.placed.Load() {
		return true, nil
	}
	if q.healthy.Load() {
		return false, nil
	}
	q.tx.mu.Lock()
	pending := q.tx.sq.len > 0
	q.tx.mu.Unlock()
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.cq.Len() > 0 || q.err != nil && q.rq.Len() > 0 || pending && q.err != nil && !q.leaving {
		return true, nil
	}
	return false, q.err
}

// Attributes implements transport.QueuePair. There are no FPDUs.
func (q *queuePair) Attributes() transport.Attributes {
	q.mu.Lock()
	defer q.mu.Unlock()
	return transport.Attributes{
		Device: deviceName, IRD: q.ird, ORD: q.ord, MaxInline: min(maxMessage, math.MaxInt),
		SendDepth: q.opts.SendDepth, RecvDepth: q.opts.RecvDepth,
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

// LocalAddr implements transport.QueuePair.
func (q *queuePair) LocalAddr() netip.AddrPort { return q.local }

// RemoteAddr implements transport.QueuePair.
func (q *queuePair) RemoteAddr() netip.AddrPort { return q.remote }

// PeerCredentials returns the user and the group of the process at the other end, when it
// connected or began to listen.
func (q *queuePair) PeerCredentials() (uid, gid uint32) { return q.cred.Uid, q.cred.Gid }

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
	q.kick()
}

func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
