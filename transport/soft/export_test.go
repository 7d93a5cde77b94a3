package soft

import (
	"time"

	"github.com/rdmanet/iwarp/internal/instant"
	"github.com/rdmanet/iwarp/transport/internal/setup"
)

// A QueuePair is what the tests know of one beyond the contract.
type QueuePair = queuePair

// FailSending has q find that sending has failed.
func FailSending(q *queuePair, err error) {
	q.tx.mu.Lock()
	defer q.tx.mu.Unlock()
	q.sendFailed(err)
}

// BoundPartings has the process keep no more than n partings, until the function that it returns is
// called.
func BoundPartings(n int) (restore func()) {
	set := func(least int, most func() int) {
		partings.mu.Lock()
		defer partings.mu.Unlock()
		partings.least, partings.most = least, most
	}
	set(0, func() int { return n })
	return func() { set(partingsLeast, maxPartings) }
}

// Partings returns how many there are, how many may be, and how many gave way plainly and by a
// reset.
func Partings() (n, most, plain, reset int) {
	partings.mu.Lock()
	defer partings.mu.Unlock()
	return partings.oldest.Len(), partings.most(), partings.plain, partings.reset
}

// SendNothing makes q send an empty Write, as a nudge that has begun before Close does.
func SendNothing(q *queuePair) {
	q.tx.mu.Lock()
	defer q.tx.mu.Unlock()
	q.sendNothing()
}

// NudgeSuspended reports whether q waits for a reader before it sends a nudge, without a timer.
func NudgeSuspended(q *queuePair) bool { return q.tx.nudger.suspended.Load() }

// BytesWait has q look whether bytes can be read from its socket.
func BytesWait(q *queuePair) bool { return q.sock.extra() }

// LookAtMSS has q ask the kernel for the MSS.
func LookAtMSS(q *queuePair) { q.sock.mss() }

// AgeFPDU makes the wait for the rest of an FPDU longer by d than it was, if q measures it.
func AgeFPDU(q *queuePair, d time.Duration) {
	q.awaitRx()
	if rx := &q.rx; rx.stalled != 0 {
		rx.stalled -= instant.Time(d)
	}
	q.giveRx()
}

// SetRequestGrace sets the age at which a connection whose request is still to come may have to
// give way, until the function that it returns is called.
func SetRequestGrace(d time.Duration) (restore func()) {
	before := setup.RequestGrace
	setup.RequestGrace = d
	return func() { setup.RequestGrace = before }
}

// Arrived returns how many FPDUs q has handled.
func Arrived(q *queuePair) int { return int(q.arrived.Load()) }

// Staging returns how many bytes of memory q holds for what has come of the stream and is not
// complete.
func Staging(q *queuePair) int {
	q.awaitRx()
	defer q.giveRx()
	if q.rx.buf == nil {
		return 0
	}
	return len(*q.rx.buf)
}

// LargeParked returns how many connections keep large staging while they wait.
func LargeParked() int { return int(largeParked.Load()) }

// BoundLargeParked sets how many may, until the function that it returns is called.
func BoundLargeParked(n int) (restore func()) {
	before := mostLargeParked.Swap(int32(n))
	return func() { mostLargeParked.Store(before) }
}

// SetFarewellLimit sets for how long the end of the stream is left to a peer, and returns what puts
// it back.
func SetFarewellLimit(d time.Duration) (undo func()) {
	old := farewellLimit
	farewellLimit = d
	return func() { farewellLimit = old }
}

// HoldRTR has initiators hold back the RTR frame for as long as d, until the function that it
// returns is called.
func HoldRTR(d time.Duration) (restore func()) {
	set := func(d time.Duration) (was time.Duration) {
		heldRTRs.mu.Lock()
		defer heldRTRs.mu.Unlock()
		was, heldRTRs.wait, heldRTRs.list = heldRTRs.wait, d, nil
		return was
	}
	was := set(d)
	return func() { set(was) }
}
