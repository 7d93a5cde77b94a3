package shm

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp/transport/internal/wait"
)

// What the reader's word of a segment says. Whoever wakes the reader sets it back to awake.
const (
	awake   = iota
	asleep  // in the runtime's poller, which a byte on the socket wakes
	dozing  // in a futex
	looking // for news, so that it need not be woken
)

// A wait that follows a brief one may be spent dozing: it blocks a thread, as a short system call
// does, but mostly takes less time than the scheduler does to find other work and to come back.
// There is no time limit, which would cost more than all else; watch ends a doze that lasts. A
// thread of the runtime's sees to other work that waits for the processor, as with any system call.
//
// The word is in memory that the peer maps as well, and whoever maps it can move a waiter to
// another futex (FUTEX_REQUEUE), or have others queue before it, so that no wake-up of ours reaches
// it. So only a wait for a peer who has power over this process anyway is spent that way: see kin.
const (
	briefTime = 20 * time.Microsecond
	// longBrief is that for waits after longBytes: to copy those takes the peer a part of the time.
	longBrief = 60 * time.Microsecond
	longBytes = 16 << 10
	longTime  = time.Millisecond // of a wait that says nothing of how it was spent
	longDoze  = 3 * watchPeriod  // is ended by then
)

var (
	briefWaits atomic.Int32 // calls that wait, and whose last wait was brief
	mostDozers atomic.Int32 // with how many of these any of them dozes: with more, there is other work
)

// alone says that this process has one processor, so that to look for what others do is of no use.
var alone = runtime.NumCPU() == 1

func init() { countProcessors() }

func countProcessors() { mostDozers.Store(int32(runtime.GOMAXPROCS(0) / 2)) }

// A dozer is what wakes a sleeper that dozes.
type dozer struct {
	word atomic.Pointer[atomic.Uint32] // that it dozes on
	mu   sync.Mutex                    // held while word is used by another than the sleeper
}

// rest waits until there may be something to do.
func (s *sleeper) rest(c *wait.Condition, seen uint32, deadline time.Time) {
	began, brief := time.Now(), briefTime
	if s.q.rx.pos-s.pos >= longBytes {
		brief = longBrief
	}
	s.pos = s.q.rx.pos
	if s.brief {
		way := s.q.way(began)
		if briefWaits.Add(1) > mostDozers.Load() {
			way = wayPoller
		}
		defer briefWaits.Add(-1)
		if way == wayLook && s.q.lookAWhile(c, seen, began, deadline) {
			if s.died.Load() {
				s.q.peerDied()
			}
			return
		}
		if (way == wayDoze || way == wayLook) && s.q.kin && (deadline.IsZero() || deadline.Sub(began) >= longDoze+s.q.t.cfg.Poll) {
			s.doze(c, seen)
			if s.died.Load() {
				s.q.peerDied()
			}
		} else {
			s.until(c, seen, deadline)
		}
	} else {
		s.until(c, seen, deadline)
	}
	took := time.Since(began)
	s.brief = took <= max(brief, s.q.t.cfg.Poll)
	if took > max(longTime, s.q.t.cfg.Poll) {
		s.choice.cut()
	}
}

// way returns how the brief wait that begins now is to be spent.
func (q *queuePair) way(now time.Time) way {
	if !q.leads {
		return way(q.in.way.Load()) // what the peer writes there can do no harm
	}
	w := q.sleep.choice.next(now, q.moved)
	if told := &q.sleep.told; *told != w {
		*told = w
		q.tx.out.way.Store(uint32(w))
	}
	return w
}

// moved is how many bytes have come and gone.
func (q *queuePair) moved() uint64 {
	q.tx.mu.Lock()
	defer q.tx.mu.Unlock()
	return q.rx.pos - q.rx.skipped + q.tx.pos - q.tx.skipped
}

// doze waits in a futex.
func (s *sleeper) doze(c *wait.Condition, seen uint32) {
	q := s.q
	r := q.in.reader
	s.dozer.word.Store(r) // before the night begins, for watch
	s.nights.Add(1)
	defer s.getUp()
	watch.arm()
	s.on.Store(c)
	r.Store(dozing)
	if !q.due(c, seen) {
		_, _, _ = unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(r)), futexWait, dozing, 0, 0, 0)
	}
}

// getUp ends what doze has begun, also after a fault.
func (s *sleeper) getUp() {
	s.dozer.mu.Lock()
	s.dozer.word.Store(nil)
	s.dozer.mu.Unlock()
	s.on.Store(nil)
	s.nights.Add(1)
	s.q.in.reader.Store(awake) // last, as it may be a fault
}

// wake ends the doze, if there is one, and reports whether there is. One that has yet to say so in
// its word begins all the same, after another look at what there is.
func (d *dozer) wake() bool {
	if d.word.Load() == nil {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.word.Load()
	if r == nil {
		return false
	}
	at := uintptr(unsafe.Pointer(r))
	// The kernel sets the word: it may be in a page for which there is no memory.
	_, _, _ = unix.RawSyscall6(unix.SYS_FUTEX, at, futexWakeOp, 1, 1, at, setAwake)
	return true
}

const (
	futexWait   = 0
	futexWake   = 1
	futexWakeOp = 5
	setAwake    = awake<<12 | dozing // FUTEX_OP(FUTEX_OP_SET, awake, FUTEX_OP_CMP_EQ, dozing)
)

// rouse wakes the peer for news if it sleeps. One that is about to sleep finds the news before it
// does. The caller holds the token or tx.mu.
func (q *queuePair) rouse() {
	r := q.tx.out.reader
	switch state := r.Load(); {
	case state == awake || state == looking || !r.CompareAndSwap(state, awake):
	case state == dozing:
		_, _, _ = unix.RawSyscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(r)), futexWake, 1, 0, 0, 0)
	default:
		_ = q.raw.Control(q.ringBell)
	}
}
