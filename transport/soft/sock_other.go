//go:build !unix

package soft

import (
	"errors"
	"math"
	"os"
	"syscall"
	"time"

	"github.com/rdmanet/iwarp/transport/internal/wait"
)

// Where a socket cannot be tried without blocking, all sending is left to the goroutine that drains
// the queue.
type platformSock struct{}

// iovecs are not needed where pieces are written one after another.
type iovecs struct{}

func (*queuePair) initPlatform() {}

func (q *queuePair) blockingRead() error {
	q.fillStaging(0)
	return nil
}

// moment is how long a try takes where a socket cannot be tried without blocking.
const moment = time.Millisecond

// tryRead calls fillStaging once and returns whether it got an answer.
func (q *queuePair) tryRead() bool {
	q.sock.setReadDeadline(time.Now().Add(moment)) // which the next call finds, and sets its own
	return q.fillStaging(0)
}

// writeSome calls transmitOn once. The caller holds its lock.
func (q *queuePair) writeSome() {
	_ = q.sock.c.SetWriteDeadline(time.Now().Add(moment))
	q.transmitOn(0)
}

func (*queuePair) writeNow(*short) {}

func (*short) init() {}

func (q *queuePair) tryWrite() { q.transmitOn(-1) }

// blockingWrite lets go of the lock every so often, because others may have to post meanwhile.
func (q *queuePair) blockingWrite(deadline time.Time) error {
	const turn = 5 * time.Millisecond
	for {
		q.tx.mu.Lock()
		_ = q.sock.c.SetWriteDeadline(time.Now().Add(turn))
		blocked := q.transmitOn(0)
		q.tx.mu.Unlock()
		switch {
		case !blocked:
			return nil
		case q.sock.wd.kicked() || wait.Expired(deadline):
			return os.ErrDeadlineExceeded
		}
	}
}

// canAim says whether fillStaging reads to where an aim says.
const canAim = false

func (q *queuePair) fillStaging(uintptr) bool {
	rx := &q.rx
	space := rx.space()
	n, err := q.sock.c.Read(space)
	rx.n = n
	rx.noteRead(rx.n)
	if rx.n < len(space) {
		rx.turn = turn{} // that was all there is
	}
	if err != nil {
		rx.fail(err)
		rx.park()
	}
	return true
}

func (s *sock) write(fd int, b *batch, _ bool) (int, error) {
	if fd < 0 {
		return 0, nil
	}
	n, err := s.c.Write(b.rest()[0])
	if isTimeout(err) {
		err = nil
	}
	return n, err
}

// isPlatformReset knows Winsock's WSAECONNABORTED and WSAECONNRESET, which are not the ECONNRESET
// of package syscall.
func isPlatformReset(err error) bool {
	var errno syscall.Errno
	return errors.As(err, &errno) && (errno == 10053 || errno == 10054)
}

func (s *sock) mss() int    { return defaultMSS }
func (s *sock) extra() bool { return false }

// unacknowledged is not known here.
func (s *sock) unacknowledged() (int, bool) { return 0, false }

// failure is found by reading and writing here.
func (s *sock) failure() error { return nil }

// openFiles returns how many descriptors the process may have.
func openFiles() uint64 { return math.MaxUint64 }

// peerGone is not known here.
func (s *sock) peerGone() bool { return false }
