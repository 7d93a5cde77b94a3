//go:build amd64 || arm64

package rnic

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/internal/wait"
	"github.com/rdmanet/iwarp/transport/rnic/internal/abi"
)

// A queuePair is a queue pair of a device, with a completion queue and a completion channel of its
// own.
//
// Locks, in the order in which they may be taken: the crew's token, sendMu, recvMu, mu. What
// belongs to the device is used with one of the latter three held, after a look at remains.
type queuePair struct {
	lib *library
	dev *device
	id  *cmID

	pd, channel, cq, qp                    uintptr // struct ibv_pd, ibv_comp_channel, ibv_cq, ibv_qp
	postSend, postRecv, pollCQ, reqNotify  uintptr // functions of the device's provider
	sendDepth, recvDepth, inline, ird, ord int

	sendMu sync.Mutex
	sq     sendQueue

	recvMu sync.Mutex
	rq     recvQueue

	regionMu    sync.Mutex
	regions     map[*region]struct{}
	regionsGone bool

	sleeper           sleeper
	waiting, draining condition      // of Wait and of Drain
	leaving           condition      // of what Close leaves behind
	others            atomic.Int32   // calls under way that wait for other things than those of Wait do
	crew              wait.Crew      // its token is the right to sleep until the completion channel says something
	busy              sync.WaitGroup // of calls for the ID that hold none of the locks
	stop              chan struct{}  // closed by Close and Abort
	end               sync.Once
	mu                sync.Mutex // guards the rest
	state             transport.State
	err               error // why the queue pair is no longer in StateRTS
	early             []transport.Completion
	late              []transport.Completion
	armed             bool    // the next completion makes an event
	events            uintptr // that were taken and have to be acknowledged
	heard             bool    // something has come from the peer
	connected         bool    // StateRTS was reached
	closed            bool    // Close or Abort was called
	peerGone          bool    // the peer has ended the connection
	overdue           bool    // the device has had its time to give back what was posted
	poor              bool    // it is of newPoorQueuePair; does not change
	remains           remains // of it in the device
	onGone            []func(both bool)
	local, remote     netip.AddrPort
	keepAlive         *time.Timer
	keepAliveIdle     time.Duration
	patience          *time.Timer // until overdue
}

var (
	_ transport.QueuePair       = (*queuePair)(nil)
	_ transport.MemoryAllocator = (*queuePair)(nil)
	_ transport.LastCloser      = (*queuePair)(nil)
	_ transport.Leaver          = (*queuePair)(nil)
	_ transport.KeepAliver      = (*queuePair)(nil)
)

// A remains is what the device has left of a queue pair. It only goes on.
type remains uint8

const (
	remainsAll     remains = iota
	remainsFalling         // nothing, or nothing soon: it must not be used
	remainsNone            // nothing, for sure
)

// usable reports whether calls may still be made for what belongs to the device.
func (r remains) usable() bool { return r == remainsAll }

const (
	defaultDepth = 512
	defaultReads = 16
	maxReads     = 254 // 255 means as many as the device has

	spareEntries = 4  // of the send queue, for what this package posts itself
	wantInline   = 64 // what rsockets asks for; devices may offer more
)

// newQueuePair makes the queue pair of an ID that belongs to a device. After an error the ID is
// left to the caller.
func newQueuePair(t *Transport, id *cmID, dev *device, o *transport.Options) (*queuePair, error) {
	q := bareQueuePair(t, id, dev)
	if err := q.configure(o); err != nil {
		return nil, err
	}
	if err := q.create(); err != nil {
		q.destroyObjects()
		return nil, shortage(err)
	}
	q.crew.Give(&q.crew.Token)
	id.owner.Store(&owner{q.event})
	return q, nil
}

// bareQueuePair returns a queue pair of which the device has nothing.
func bareQueuePair(t *Transport, id *cmID, dev *device) *queuePair {
	q := &queuePair{lib: id.ch.lib, dev: dev, id: id, stop: make(chan struct{}), regions: make(map[*region]struct{})}
	q.waiting.ask(q, q.pollable)
	q.draining.ask(q, q.drained)
	q.leaving.ask(q, q.sentAll)
	q.sleeper.init(q, t.cfg.Poll)
	return q
}

// newPoorQueuePair makes a queue pair that the device has no room for; shortage says what ran out.
// All that is done with it fails in the same way, but its connection request can be refused with a
// word.
func newPoorQueuePair(t *Transport, id *cmID, dev *device, o *transport.Options, shortage *shortageError) (*queuePair, error) {
	q := bareQueuePair(t, id, dev)
	if err := q.configure(o); err != nil {
		return nil, err
	}
	q.inline, q.poor = wantInline, true
	q.state, q.err, q.remains = transport.StateError, shortage, remainsFalling
	q.crew.Give(&q.crew.Token)
	return q, nil
}

// configure settles the sizes of the queues by what was asked for and what the device can do.
func (q *queuePair) configure(o *transport.Options) error {
	if o == nil {
		o = &transport.Options{}
	}
	s := getScratch()
	defer s.release()
	if err := verb("ibv_query_device", q.lib.ibvQueryDevice, q.id.c().Verbs, ptr(&s.device)); err != nil {
		return err
	}
	d := &s.device
	depth := func(n, spare int) int {
		if n <= 0 {
			n = defaultDepth
		}
		return max(min(n, int(d.MaxQPWR)-spare, int(d.MaxCQE)/2-spare), 1)
	}
	reads := func(n int, most int32) int {
		switch {
		case n < 0:
			return 0
		case n == 0:
			n = defaultReads
		}
		return min(n, int(most), maxReads)
	}
	q.sendDepth, q.recvDepth = depth(o.SendDepth, spareEntries), depth(o.RecvDepth, 0)
	q.ird, q.ord = reads(o.IRD, d.MaxQPRdAtom), reads(o.ORD, d.MaxQPInitRdAtom)
	q.sq.init(q.sendDepth + spareEntries)
	q.rq.init(q.recvDepth)
	return nil
}

// create makes what belongs to the device. The protection domain is the connection's own, as an
// STag must not be good for another.
func (q *queuePair) create() (err error) {
	verbs := q.id.c().Verbs
	if q.pd, err = q.lib.create("ibv_alloc_pd", q.lib.ibvAllocPD, verbs); err != nil {
		return err
	}
	if q.channel, err = q.lib.create("ibv_create_comp_channel", q.lib.ibvCreateCompChannel, verbs); err != nil {
		return err
	}
	if q.sleeper.f, q.sleeper.rc, err = pollable(&at[abi.CompChannel](q.channel).Fd, "rdma completions"); err != nil {
		return err
	}
	entries := uintptr(q.sendDepth + spareEntries + q.recvDepth)
	if q.cq, err = q.lib.create("ibv_create_cq", q.lib.ibvCreateCQ, verbs, entries, 0, q.channel, 0); err != nil {
		return err
	}
	s := getScratch()
	defer s.release()
	s.init = abi.QPInitAttr{SendCQ: q.cq, RecvCQ: q.cq, QPType: abi.QPTypeRC, Cap: abi.QPCap{
		MaxSendWR: uint32(q.sendDepth + spareEntries), MaxRecvWR: uint32(q.recvDepth), MaxSendSge: 1, MaxRecvSge: 1, MaxInlineData: wantInline,
	}}
	if err = q.lib.call("rdma_create_qp", q.lib.rdmaCreateQP, q.id.ptr, q.pd, ptr(&s.init)); err != nil {
		return err
	}
	q.inline = min(int(s.init.Cap.MaxInlineData), inlineMax)
	q.qp = q.id.c().QP
	w := q.id.watch()
	w.add(q.qp, q)
	w.add(q.cq, q)
	ops := &at[abi.Context](verbs).Ops
	q.postSend, q.postRecv, q.pollCQ, q.reqNotify = ops.PostSend, ops.PostRecv, ops.PollCQ, ops.ReqNotifyCQ
	return nil
}

// shortage marks an error that says that something has run out. EIO comes from a library that does
// not say what: rdma-core's for siw takes offset 0x90000 of a queue in the kernel's memory for a
// failure (SIW_INVAL_UOBJ_KEY), and where there are many queues one of them is there now and then.
func shortage(err error) error {
	for _, n := range []syscall.Errno{syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE, syscall.ENOSPC, syscall.EAGAIN, syscall.EIO} {
		if errors.Is(err, n) {
			return &shortageError{err}
		}
	}
	return err
}

// established brings the queue pair to StateRTS. A peer that has ended the connection since may
// have sent something before: that is for the user to find.
func (q *queuePair) established() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed || !q.remains.usable() || q.err != nil && !q.peerGone {
		return q.err
	}
	q.local, q.remote = q.id.localAddr(), q.id.remoteAddr()
	q.connected = true
	if q.err == nil {
		q.state = transport.StateRTS
	}
	return nil
}

// hold keeps the ID for a call, until busy.Done, unless the queue pair is at its end.
func (q *queuePair) hold() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err == nil {
		q.busy.Add(1)
	}
	return q.err
}

// reply waits for the answer to what was asked for, which no longer comes after Close.
func (q *queuePair) reply(ctx context.Context) (cmEvent, error) {
	select {
	case ev := <-q.id.replies: // though there may be other reasons to return
		return ev, nil
	default:
	}
	select {
	case ev := <-q.id.replies:
		return ev, nil
	case <-q.stop:
		return cmEvent{}, transport.ErrClosed
	case <-ctx.Done():
		return cmEvent{}, handshakeEnd(ctx)
	}
}

// fail ends the queue pair with err, unless it has ended already. What was posted comes back
// flushed.
func (q *queuePair) fail(state transport.State, err error) {
	q.mu.Lock()
	q.noteEnd(state, err)
	q.flush()
	q.rouse()
	q.mu.Unlock()
}

// noteEnd records why the queue pair is at its end. The caller holds mu.
func (q *queuePair) noteEnd(state transport.State, err error) {
	if q.err != nil {
		return
	}
	q.state, q.err = state, err
	if q.connected && !q.closed {
		q.patience = time.AfterFunc(flushLimit, func() {
			q.mu.Lock()
			defer q.mu.Unlock()
			q.overdue = true
			q.rouse()
		})
	}
}

// flushLimit is how long a device has to give back what was posted to a queue pair that has failed.
// It takes much less.
const flushLimit = time.Second

// flush has the device give back what was posted. The caller holds mu.
func (q *queuePair) flush() {
	if !q.remains.usable() {
		return
	}
	s := getScratch()
	defer s.release()
	s.attr = abi.QPAttr{QPState: abi.QPStateErr}
	// It fails where the queue pair is past that already.
	_ = verb("ibv_modify_qp", q.lib.ibvModifyQP, q.qp, ptr(&s.attr), uintptr(abi.QPAttrState))
}

// event is told of the connection's end, by the event channel's goroutine.
func (q *queuePair) event(ev cmEvent) {
	switch ev.kind {
	case abi.CMEventDisconnected:
		q.mu.Lock()
		for q.reapSome() > 0 { // which may tell more about the end
			q.rouse()
		}
		q.peerGone = true
		q.mu.Unlock()
		err := endOfStream
		if ev.status != 0 {
			err = os.NewSyscallError("rdma", syscall.ECONNRESET)
		}
		q.fail(transport.StateError, err)
	case abi.CMEventDeviceRemoval:
		q.fail(transport.StateError, errRemoved)
		// The kernel's driver waits for this, and this for the goroutine of the caller.
		go q.teardown()
	}
}

// Attributes implements transport.QueuePair.
func (q *queuePair) Attributes() transport.Attributes {
	q.mu.Lock()
	defer q.mu.Unlock()
	return transport.Attributes{
		Device: q.dev.Name, IRD: q.ird, ORD: q.ord,
		CRC:       !q.dev.IWARP, // of iWARP devices it is not known; others cannot do without
		MaxInline: q.inline, SendDepth: q.sendDepth, RecvDepth: q.recvDepth,
		Immediate: !q.dev.IWARP,
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
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.err
}

// LocalAddr implements transport.QueuePair.
func (q *queuePair) LocalAddr() netip.AddrPort {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.local
}

// RemoteAddr implements transport.QueuePair.
func (q *queuePair) RemoteAddr() netip.AddrPort {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.remote
}

// SetMaxSegment implements transport.QueuePair: the device chooses the size of its segments.
func (q *queuePair) SetMaxSegment(int) error { return errors.ErrUnsupported }
