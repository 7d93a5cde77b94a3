package soft

import (
	"container/list"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/internal/wait"
)

const (
	partingFirst = time.Millisecond // between two steps, doubled while there is no progress
	partingMost  = time.Second
	partingRest  = 100 * time.Millisecond // at most, while the kernel has not taken everything

	terminateLimit = 5 * time.Second  // for a peer that has broken the protocol
	lingerLimit    = 30 * time.Second // without progress, where the system does not say what is acknowledged

	partingReads = 2        // of the socket in one step
	partingFlood = 16 << 20 // bytes from a peer that takes nothing; more of them are read slowly
)

// farewellLimit is for how long the end of the stream is left to the peer.
var farewellLimit = time.Second

// A parting finishes a connection after Close, or after a Terminate of ours: it sends the rest,
// ends the stream and discards what comes. It needs neither a goroutine nor the caller's memory,
// only a descriptor and a timer.
//
// The descriptor is closed when the kernel can do the rest alone, as it does for any socket: it
// goes on sending for as long as the peer's host answers. It cannot while the peer may send
// something, such as a word about space, since a kernel answers what comes for a closed socket with
// a reset, and that throws away what is on its way. So everything must have been handed to the
// kernel; besides, the peer must have ended the stream, or its host must have acknowledged
// everything, or the peer must be known to send nothing, or the kernel must be deaf to it.
type parting struct {
	q        *queuePair
	last     bool      // the peer sends nothing that matters
	farewell bool      // the peer ends the stream first, if it does so soon
	deafens  bool      // the kernel may be deafened
	until    time.Time // when it is given up; the zero time leaves that to TCP

	place  *list.Element // in the keeper
	handed atomic.Bool   // the kernel has everything, and the stream is ended

	mu    sync.Mutex // guards the rest; held over a step, which does not wait
	timer *time.Timer
	wait  time.Duration
	over  bool

	sent      bool      // the kernel has everything
	widened   bool      // it was made to take more
	gateBy    time.Time // when a peer must have sent its first FPDU
	lost      error     // why something was flushed
	endBy     time.Time // with farewell, when the stream is ended at the latest
	peerEnded bool
	looked    bool // what has come was read in this step
	drained   bool // all of it
	deaf      bool // the kernel takes nothing more from the peer
	moved     bool // this step has made progress
	quiet     time.Time
	taken     uint32 // bytes that the kernel has taken, as transmitter.taken says
	left      int    // bytes unacknowledged
	heard     int    // bytes that have come since something was acknowledged
}

// part begins p. What cannot be done at once is left to the keeper.
func (q *queuePair) part(p *parting) {
	p.mu.Lock()
	p.wait, p.quiet = partingFirst, time.Now()
	p.gateBy = p.quiet.Add(q.cfg.RequestTimeout)
	done := p.advance()
	p.mu.Unlock()
	if done {
		return
	}
	partings.add(p)
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.over {
		p.timer = time.AfterFunc(p.wait, p.run)
	}
}

// run is the next step.
func (p *parting) run() {
	p.mu.Lock()
	done := p.over || p.advance()
	if !done {
		p.timer.Reset(p.wait)
	}
	p.mu.Unlock()
	if done {
		partings.remove(p)
	}
}

// advance takes a step and reports whether it was the last one. The caller holds mu.
func (p *parting) advance() (done bool) {
	p.moved = false
	done, err := p.step()
	if done || !p.until.IsZero() && wait.Expired(p.until) {
		p.over = true
		p.q.closeSock()
		if err == nil {
			err = p.lost
		}
		p.q.over(err)
		return true
	}
	if p.moved {
		p.wait, p.quiet = partingFirst, time.Now()
	} else {
		most := partingRest
		if p.handed.Load() {
			most = partingMost
		}
		p.wait = min(2*p.wait, most)
	}
	return false
}

// step does what can be done without waiting. It reports whether nothing is left, or what failed.
func (p *parting) step() (done bool, err error) {
	q := p.q
	if q.gateHolds() {
		if err := p.hear(); err != nil {
			return true, err
		}
		p.giveUpGate()
	}
	if err := p.send(); err != nil {
		return true, err
	}
	if err := p.hear(); err != nil {
		return true, err
	}
	if p.sent && !p.handed.Load() && !p.leavesEnd() {
		p.endStream()
	}
	if !p.handed.Load() {
		return false, nil
	}
	if err := p.deafen(); err != nil {
		return true, err
	}
	switch {
	case !p.looked:
		return false, nil
	case (p.last || p.peerEnded) && !q.awaited.Load():
		return true, nil
	}
	if done, err := p.acknowledged(); done {
		return true, err
	}
	return p.deaf && p.drained, nil
}

// deafen makes the kernel go on alone, if it can, where the peer does not read or is not reached.
// What is merely on its way needs no more than a moment.
func (p *parting) deafen() error {
	if !p.deafens || p.deaf || p.peerEnded || p.q.awaited.Load() {
		return nil
	}
	if p.q.sock.unsent() == 0 && time.Since(p.quiet) < partingRest {
		return nil
	}
	p.deaf = p.q.sock.deafen()
	p.deafens = p.deaf
	if !p.deaf {
		return nil
	}
	return p.hear() // a socket that is closed with something unread is reset
}

// giveUpGate flushes what waits for the first FPDU of a peer that has had the time to send it, or
// no longer will.
func (p *parting) giveUpGate() {
	q := p.q
	if !q.gateHolds() {
		return
	}
	switch {
	case p.peerEnded:
		p.lost = io.ErrUnexpectedEOF
	case wait.Expired(p.gateBy):
		p.lost = transport.ErrHandshakeTimeout
	default:
		return
	}
	q.tx.mu.Lock()
	q.flushSends()
	q.tx.mu.Unlock()
}

// leavesEnd reports whether it is still left to the peer to end the stream first.
func (p *parting) leavesEnd() bool {
	if !p.farewell || p.peerEnded {
		return false
	}
	if p.endBy.IsZero() {
		p.endBy = time.Now().Add(farewellLimit)
	}
	return !wait.Expired(p.endBy)
}

// acknowledged reports whether the peer's host has everything, or what prevents that.
func (p *parting) acknowledged() (bool, error) {
	left, known := p.q.sock.unacknowledged()
	if !known {
		return p.peerEnded || time.Since(p.quiet) > lingerLimit, nil
	}
	if left < p.left {
		p.moved, p.heard = true, 0
	}
	p.left = left
	if left > 0 && p.peerEnded {
		// Reading finds the end of the stream, whatever happens after that.
		if err := p.q.sock.failure(); err != nil {
			return true, err
		}
	}
	return left == 0, nil
}

// send hands the kernel what it takes.
func (p *parting) send() error {
	t := &p.q.tx
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err == nil && !p.sent {
		p.q.writeSome()
		if t.blocked && p.deafens && !p.widened {
			p.widened = true
			p.q.sock.widen()
			p.q.writeSome()
		}
	}
	if t.err != nil {
		return t.err
	}
	p.sent = !t.blocked && (t.gateOpen || t.sq.Len() == 0)
	if t.taken != p.taken {
		p.taken, p.moved, p.heard = t.taken, true, 0
	}
	return nil
}

// endStream ends the stream, unless somebody has meanwhile added something to send.
func (p *parting) endStream() {
	t := &p.q.tx
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.blocked || !t.out.empty() {
		p.sent = false
		return
	}
	t.phase = phaseEnded
	_ = p.q.sock.c.CloseWrite()
	p.handed.Store(true)
	p.moved = true
}

// hear reads what has come and forgets it, unless it may open the gate. Anybody else who is reading
// leaves soon.
func (p *parting) hear() error {
	q := p.q
	p.looked, p.drained = false, false
	if !q.Crew.Take() {
		return nil
	}
	defer q.giveRx()
	p.looked = true
	rx := &q.rx
	defer rx.unpark()
	rx.short = 0
	for range partingReads {
		holds := q.gateHolds()
		if !holds {
			rx.r, rx.w = 0, 0
		}
		rx.n, rx.err = 0, nil
		if p.peerEnded || !q.tryRead() || isTimeout(rx.failure()) {
			p.drained = true
			break
		}
		if rx.n == 0 && (rx.err == nil || errors.Is(rx.failure(), io.EOF)) {
			p.peerEnded, p.drained = true, true
			break
		}
		if rx.err != nil {
			rx.release()
			return rx.failure()
		}
		if holds {
			rx.w += rx.n
			q.parse(nil)
		}
		p.heard += rx.n
		p.moved = p.moved || p.heard < partingFlood
	}
	rx.release()
	return nil
}

// cut ends p before it is over, plainly where the kernel has everything, otherwise by a reset.
func (p *parting) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return
	}
	p.over = true
	if p.timer != nil {
		p.timer.Stop()
	}
	if p.handed.Load() {
		if p.deafens && !p.peerEnded {
			p.q.sock.deafen()
		}
		_ = p.hear()
		p.q.closeSock()
	} else {
		p.q.abortSock()
	}
	p.q.over(errCut)
}

var errCut = errors.New("given up for newer ones: too many closed connections have something left to be sent")
