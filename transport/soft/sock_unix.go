//go:build unix

package soft

import (
	"math"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp/internal/instant"
)

// platformSock holds the callback for the runtime's poller that every connection needs, made once
// so that no call allocates.
type platformSock struct {
	read func(fd uintptr) bool
}

func (q *queuePair) initPlatform() { q.sock.platform.read = q.fillStaging }

// A polling holds the other callbacks. They are lent, so that no connection keeps them.
type polling struct {
	q     *queuePair
	got   bool // what read has returned
	read  func(fd uintptr)
	write func(fd uintptr)
	await func(fd uintptr) bool // write for one who may block; takes the lock of transmitOn
}

var pollings sync.Pool

func newPolling() *polling {
	p := new(polling)
	p.read = func(fd uintptr) { p.got = p.q.fillStaging(fd) }
	p.write = func(fd uintptr) { p.q.transmitOn(int(fd)) }
	p.await = func(fd uintptr) bool {
		p.q.tx.mu.Lock()
		defer p.q.tx.mu.Unlock()
		return !p.q.transmitOn(int(fd))
	}
	return p
}

// polling returns callbacks, to be given back by done.
func (q *queuePair) polling() *polling {
	p, _ := pollings.Get().(*polling)
	if p == nil {
		p = newPolling()
	}
	p.q = q
	return p
}

func (p *polling) done() {
	p.q, p.got = nil, false
	pollings.Put(p)
}

// blockingRead calls fillStaging until it has an answer or the read deadline passes.
func (q *queuePair) blockingRead() error {
	q.rx.looks = q.cfg.Poll > 0
	err := q.sock.rc.Read(q.sock.platform.read)
	q.rx.looks = false
	return err
}

// tryRead calls fillStaging once and returns its answer, whatever the deadline.
func (q *queuePair) tryRead() bool {
	p := q.polling()
	defer p.done()
	return q.sock.rc.Control(p.read) != nil || p.got
}

// tryWrite calls transmitOn once. The caller holds its lock.
func (q *queuePair) tryWrite() {
	p := q.polling()
	defer p.done()
	_ = q.sock.rc.Control(p.write)
}

// writeNow writes as much of w as the kernel takes now. The caller holds the lock of transmitOn.
func (q *queuePair) writeNow(w *short) {
	if err := q.sock.rc.Control(w.call); err != nil {
		w.err = err
	}
}

func (s *short) init() {
	// As writeOnce does, with a frame less.
	s.call = func(fd uintptr) {
		for {
			if s.n, s.err = unix.Write(int(fd), s.all); s.err != unix.EINTR {
				break
			}
		}
		if s.err != nil {
			s.n, s.err = taken(s.n, s.err)
		}
	}
}

// writeOnce writes as much of b as the kernel takes now.
func writeOnce(fd int, b []byte) (int, error) {
	for {
		if n, err := unix.Write(fd, b); err != unix.EINTR {
			return taken(n, err)
		}
	}
}

// taken returns how much a write has written, which is nothing if the kernel takes nothing now.
func taken(n int, err error) (int, error) {
	switch err {
	case nil:
		return n, nil
	case unix.EAGAIN:
		return 0, nil
	}
	return 0, os.NewSyscallError("write", err)
}

// writeSome is tryWrite for a caller that can wait a moment where a socket cannot be tried.
func (q *queuePair) writeSome() { q.tryWrite() }

// blockingWrite calls transmitOn, under its lock, until nothing is left or the write deadline
// passes.
func (q *queuePair) blockingWrite(time.Time) error {
	p := q.polling()
	defer p.done()
	return q.sock.rc.Write(p.await)
}

// canAim says whether fillStaging reads to where an aim says.
const canAim = true

// fillStaging reads what the descriptor has.
func (q *queuePair) fillStaging(fd uintptr) bool {
	rx := &q.rx
	if rx.aim != nil {
		return q.fillAim(int(fd))
	}
	space := rx.nextSpace()
	var end instant.Time
	for {
		n, err := unix.Read(int(fd), space)
		if err == unix.EINTR || err == unix.EAGAIN && rx.looks && q.looksOn(&end) {
			continue
		}
		endLook(end)
		if err == nil {
			rx.noteRead(n)
		}
		return q.filled(n, err)
	}
}

// fillAim is fillStaging for what is aimed at.
func (q *queuePair) fillAim(fd int) bool {
	rx, a := &q.rx, q.rx.aim
	before := a.guess.before
	space := rx.shortSpace(before + ahead)
	for {
		var n int
		var err error
		if a.got < len(a.mem) {
			a.vec = [...][]byte{space[:before], a.rest(), space[before:]}
			n, err = readv(fd, a.vec[:])
		} else {
			n, err = unix.Read(fd, space)
		}
		if err == unix.EINTR {
			continue
		}
		clear(a.vec[:])
		return q.filled(n, err)
	}
}

// filled records the outcome of a read, and reports whether it is one.
func (q *queuePair) filled(n int, err error) bool {
	rx := &q.rx
	switch err {
	case nil:
		rx.n = n
	case unix.EAGAIN:
		rx.park()
		rx.turn = turn{}
		return false
	default:
		rx.fail(os.NewSyscallError("read", err))
	}
	return true
}

// write hands the rest of b to the kernel and returns how many bytes it took, 0 if it takes none
// now. With record set nothing is ever appended to the segment that they end in, so that the next
// FPDU starts a new one (RFC 5044 §5).
func (s *sock) write(fd int, b *batch, record bool) (n int, err error) {
	pieces := b.rest()
	for {
		switch {
		case len(pieces) > 1:
			n, err = b.vec.write(fd, pieces)
		case record && eor != 0:
			n, err = unix.SendmsgN(fd, pieces[0], nil, nil, eor)
		default:
			return writeOnce(fd, pieces[0])
		}
		if err != unix.EINTR {
			return taken(n, err)
		}
	}
}

// isPlatformReset knows resets that do not have the number of package syscall.
func isPlatformReset(error) bool { return false }

// mss returns the size in bytes of the TCP segments sent at present.
func (s *sock) mss() int {
	mss := 0
	_ = s.rc.Control(func(fd uintptr) { mss, _ = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG) })
	if mss <= 0 {
		return defaultMSS
	}
	return mss
}

// extra reports whether bytes can be read now. It leaves an error of the connection to whoever
// reads.
func (s *sock) extra() bool {
	n := 0
	_ = s.rc.Control(func(fd uintptr) { n = readable(int(fd)) })
	return n > 0
}

// failure returns why the connection has failed, or nil. The kernel reports it once.
func (s *sock) failure() error {
	n := 0
	_ = s.rc.Control(func(fd uintptr) { n, _ = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR) })
	if n == 0 {
		return nil
	}
	return unix.Errno(n)
}

// openFiles returns how many descriptors the process may have.
func openFiles() uint64 {
	var r unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &r) != nil {
		return math.MaxUint64
	}
	return uint64(r.Cur)
}
