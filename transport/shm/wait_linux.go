package shm

import (
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp/transport/internal/wait"
)

// Wait implements transport.QueuePair.
func (q *queuePair) Wait(deadline time.Time) error {
	err := q.Pair.Wait(deadline)
	q.leaveOutput()
	return err
}

// Drain implements transport.QueuePair.
func (q *queuePair) Drain(deadline time.Time) error {
	if ok, _ := q.drained(); ok {
		return nil
	}
	err := q.Crew.For(q, &q.Draining, q.Draining.Begin(), deadline)
	if err != nil {
		q.takeOver()
	}
	q.leaveOutput()
	return err
}

// Drained implements transport.DrainTeller.
func (q *queuePair) Drained() bool {
	ok, _ := q.drained()
	return ok
}

// drained reports whether everything on the send queue has been sent, and otherwise why it never
// will be.
func (q *queuePair) drained() (bool, error) {
	q.tx.mu.Lock()
	sent, err := q.tx.sq.Drained(), q.tx.err
	q.tx.mu.Unlock()
	if sent {
		return true, nil
	}
	if why := q.Err(); why != nil {
		err = why
	}
	return false, err
}

// Holds implements wait.Driver.
func (q *queuePair) Holds(c *wait.Condition) (bool, error) {
	switch c {
	case &q.Draining:
		return q.drained()
	case &q.tending:
		return q.untended()
	case &q.parting:
		return false, nil
	}
	return q.Pair.Holds(c)
}

// Drive implements wait.Driver: it takes what there is, or sleeps until there is something.
func (q *queuePair) Drive(c *wait.Condition, seen uint32, deadline time.Time) (_ wait.Pause, err error) {
	if !q.Healthy() {
		return wait.NoPause, wait.ErrAgain
	}
	err = wait.ErrAgain // also after a fault
	defer q.survive(debug.SetPanicOnFault(true))
	some := q.receive(c)
	if q.push() || some {
		return q.rx.pause(), wait.ErrAgain
	}
	q.sleep.rest(c, seen, deadline)
	return wait.NoPause, wait.ErrAgain
}

const (
	// lookTime is how long a call looks for news at least, if that is better than to sleep at once.
	// It is about what it takes to wake up what sleeps on another processor.
	lookTime = 10 * time.Microsecond
	// firstWay is after how long it makes way for the peer, which may need the very processor: whoever
	// wakes another up has it run where it is itself, as a rule, and the system takes milliseconds to
	// move one of two that run all the time. wayTime is how often it makes way after that.
	firstWay = 2 * time.Microsecond
	wayTime  = time.Microsecond
)

// lookAWhile looks for news, and reports whether there is some. It does not let other goroutines
// run: that would wake up a thread to look for work where there is none, which may take the peer's
// processor.
func (q *queuePair) lookAWhile(c *wait.Condition, seen uint32, began, deadline time.Time) bool {
	if r := q.in.reader; q.rx.pos&(q.in.size()-1) >= rewindAt {
		r.Store(looking) // so that the peer starts again at the front of the ring
		defer r.Store(awake)
	}
	patience := lookTime
	if q.leads || q.kin { // a stranger does not choose that this end looks for long
		patience = max(patience, q.t.cfg.Poll)
	}
	if left := deadline.Sub(began); !deadline.IsZero() && left < patience {
		patience = left
	}
	return lookFor(func() bool { return q.due(c, seen) }, began, patience)
}

// lookFor looks for something until it is there, which it reports, or patience is over.
func lookFor(there func() bool, began time.Time, patience time.Duration) bool {
	for way := firstWay; ; {
		for range 8 {
			if there() {
				return true
			}
		}
		took := time.Since(began)
		if took >= patience {
			return false
		}
		if took >= way {
			way = took + wayTime
			_, _, _ = unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
		}
	}
}

// due reports whether there is something to do for the driver. The caller holds the token.
func (q *queuePair) due(c *wait.Condition, seen uint32) bool {
	if q.in.tail.Load() != q.rx.pos || q.in.end.Load() != endNone || q.sleep.died.Load() {
		return true
	}
	if q.tx.blocked.Load() && q.tx.out.writer.Load() == 0 {
		return true
	}
	if c.Interrupted(seen) {
		return true
	}
	ok, err := q.Holds(c)
	return ok || err != nil
}

// Look takes once what has arrived, for the next call of Poll, unless another call waits for that.
// It does not block, and returns false if there was nothing.
func (q *queuePair) Look() bool {
	if !q.Healthy() {
		return false
	}
	if !q.Crew.Take() {
		return false
	}
	some := q.lookOnce()
	q.Crew.Give(&q.Crew.Token)
	q.leaveOutput()
	return some
}

// lookOnce takes what there is. The caller holds the token.
func (q *queuePair) lookOnce() (some bool) {
	if !q.Healthy() {
		return false
	}
	defer q.survive(debug.SetPanicOnFault(true))
	some = q.receive(nil)
	if q.push(); !some && q.sleep.died.Load() {
		q.peerDied()
	}
	return some
}

// past is a deadline that wakes a sleeper at once.
var past = time.Unix(1, 0)

// bellsUnread is how many wake-ups may leave their bytes on the socket before these are read, or
// fewer where it has room for less. Many more would fill it, and the next one would be lost.
const (
	bellsUnread = 32
	bellRoom    = 2048 // more than the kernel takes for one
)

// bellsOn is how many wake-ups may be unread on a socket that has room for so many bytes, as the
// peer's has, which the kernel has made at the same time.
func bellsOn(room int) uint32 { return uint32(min(max(room/bellRoom, 1), bellsUnread)) }

// A sleeper waits in the runtime's poller for the peer's bell. The holder of the token uses it.
//
// The poller reports each byte that comes, whether or not those before it were read, so they are
// read in rows. It reports the end of the peer, too, unless that came while nobody slept: for that
// there is watch.
type sleeper struct {
	q      *queuePair
	on     atomic.Pointer[wait.Condition] // what the one who sleeps or dozes waits for
	nights atomic.Uint64                  // how often somebody has gone to sleep, and woken up; odd while somebody sleeps
	died   atomic.Bool                    // watch has found the peer dead
	kicks  sync.Mutex                     // held while kick sets the deadline of the socket
	kicked atomic.Bool                    // which is that of kick
	armed  time.Time                      // the deadline of the socket otherwise
	look   func(fd uintptr) bool
	c      *wait.Condition
	seen   uint32
	slept  bool
	dead   bool   // the peer has closed its socket
	bells  uint32 // that may have come since some were read
	brief  bool   // the last wait was brief
	pos    uint64 // up to where messages had come before it
	choice choice
	told   way // that the peer knows of
	dozer  dozer
}

func (s *sleeper) init(q *queuePair) {
	s.q = q
	s.look = s.lookOrSleep
}

// kick wakes the sleeper, so that it checks its condition again.
func (q *queuePair) kick() {
	if s := &q.sleep; s.on.Load() != nil {
		s.kicks.Lock()
		if s.on.Load() != nil {
			s.kicked.Store(true)
			_ = q.sock.SetReadDeadline(past)
		}
		s.kicks.Unlock()
	}
	_ = q.sleep.dozer.wake()
}

// awaitKicks returns once no kick sets the deadline of the socket any more. The caller holds the
// token for good.
func (s *sleeper) awaitKicks() {
	s.kicks.Lock()
	defer s.kicks.Unlock()
}

// until sleeps until there may be something to do.
func (s *sleeper) until(c *wait.Condition, seen uint32, deadline time.Time) {
	q := s.q
	if s.kicked.Swap(false) || !deadline.Equal(s.armed) {
		s.armed = deadline
		_ = q.sock.SetReadDeadline(deadline)
	}
	s.c, s.seen, s.slept, s.dead = c, seen, false, false
	err := q.raw.Read(s.look)
	if s.slept {
		s.nights.Add(1)
	}
	q.in.reader.Store(awake)
	s.on.Store(nil)
	s.c = nil
	if err != nil {
		s.kicked.Store(true)            // a deadline that has passed is of no more use
		if s.slept && !q.due(c, seen) { // too briefly, time after time, for watch to see that
			s.dead, _ = peerHungUp(q.raw)
		}
	}
	if s.dead || s.died.Load() {
		s.dead = true
		q.peerDied()
	}
}

// lookOrSleep is called by the poller twice: first to see whether there is something already, when
// every bell from then on is noticed, and then after the sleep.
func (s *sleeper) lookOrSleep(fd uintptr) bool {
	q := s.q
	if s.slept {
		s.dead = !q.due(s.c, s.seen) && hungUp(fd)
		return true
	}
	s.slept = true
	// From here on the poller remembers an end of the peer that it sees, so an earlier one is all that
	// watch has to find.
	s.nights.Add(1)
	watch.arm()
	if s.bells >= q.mostBells {
		s.bells = 0
		discard(int(fd), false)
	}
	s.on.Store(s.c)
	s.bells++
	q.in.reader.Store(asleep)
	return q.due(s.c, s.seen)
}

// peerHungUp is hungUp for who has no descriptor. It fails where this end has closed the socket.
func peerHungUp(raw syscall.RawConn) (yes bool, err error) {
	err = raw.Control(func(fd uintptr) { yes = hungUp(fd) })
	return yes, err
}

// hungUp reports whether the peer has closed the socket.
func hungUp(fd uintptr) bool {
	polled := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
	n, err := unix.Poll(polled[:], 0)
	return n > 0 && err == nil
}
