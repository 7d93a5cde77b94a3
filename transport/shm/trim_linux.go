package shm

import (
	"maps"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Only the sender knows which pages of a ring nobody uses, so it gives back those of a connection
// that has fallen idle, all but the first. Whoever does so waits in the kernel for others who write
// to the memory as a file, which a peer can make last for good. So that is done only for a peer who
// has power over this process anyway.

// trimPeriod is how often the connections are looked at that have used more than the first page.
// One that has sent nothing since the look before is idle.
const trimPeriod = time.Second

// A surplus is what a transmitter knows about the pages of the peer's ring. tx.mu guards it.
type surplus struct {
	wide     bool          // more than the first page was used
	last     uint64        // how much had been written at the last look
	trimming bool          // pages are being given back: nothing may be written
	trimmed  chan struct{} // closed at the end of that, if somebody waits for it
}

// spread is called when the ring is used beyond its first page. The caller holds tx.mu.
func (q *queuePair) spread() {
	q.tx.wide = true
	q.tx.last = 0
	if q.kin {
		trims.add(q)
	}
}

// trim gives back the pages that nobody uses if the connection is idle. It reports whether there is
// nothing more to give back. No lock is held meanwhile, as the peer can delay that.
func (q *queuePair) trim() (done bool) {
	out, done := q.beginTrim()
	if out != nil {
		_ = unix.Madvise(out.mem[os.Getpagesize():], unix.MADV_REMOVE)
		q.endTrim(out)
	}
	return done
}

// beginTrim returns the peer's segment if the connection is idle. Nothing is written to it until
// endTrim.
func (q *queuePair) beginTrim() (out *segment, done bool) {
	t := &q.tx
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.out == nil {
		return nil, true
	}
	defer q.survive(debug.SetPanicOnFault(true))
	if idle := t.last == t.pos; !idle || t.out.head.Load() != t.pos {
		t.last = t.pos
		return nil, false
	}
	t.trimming, t.wide = true, false
	return t.out, true
}

// endTrim sends what could not be sent meanwhile.
func (q *queuePair) endTrim(out *segment) {
	t := &q.tx
	t.mu.Lock()
	t.trimming = false
	if t.trimmed != nil {
		defer close(t.trimmed)
		t.trimmed = nil
	}
	if t.out == nil {
		out.close()
	}
	before := t.pos
	q.flush()
	progress := t.pos != before
	t.mu.Unlock()
	if progress {
		q.kick()
	}
}

// trimPatience is how long Close waits for the end of a trim, which takes much less as a rule.
var trimPatience = 10 * time.Millisecond

// awaitTrim waits for the end of a trim, if that keeps something from being sent.
func (q *queuePair) awaitTrim() {
	t := &q.tx
	t.mu.Lock()
	if !t.trimming || !t.pending.Load() {
		t.mu.Unlock()
		return
	}
	over := make(chan struct{})
	t.trimmed = over
	t.mu.Unlock()
	patience := time.NewTimer(trimPatience)
	defer patience.Stop()
	select {
	case <-over:
	case <-patience.C:
	}
}

// mostTrimmers bounds those that a peer can delay.
const mostTrimmers = 4

var trims trimmers

// Trimmers look at connections from time to time, while there are some that they should look at.
type trimmers struct {
	mu      sync.Mutex
	wide    map[*queuePair]struct{} // that are not in due
	due     map[*queuePair]struct{}
	running int
	timer   *time.Timer
	armed   bool
}

func (w *trimmers) add(q *queuePair) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.wide == nil {
		w.wide, w.due = make(map[*queuePair]struct{}), make(map[*queuePair]struct{})
	}
	w.wide[q] = struct{}{}
	w.arm()
}

// next takes one of those in due. The caller holds mu.
func (w *trimmers) next() (q *queuePair) {
	for q = range w.due {
		delete(w.due, q)
		break
	}
	return q
}

// remove forgets a connection that has ended.
func (w *trimmers) remove(q *queuePair) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.wide, q)
	delete(w.due, q)
}

// arm makes sure that look is called after a while. The caller holds mu.
func (w *trimmers) arm() {
	switch {
	case w.armed:
	case w.timer == nil:
		w.timer = time.AfterFunc(trimPeriod, w.look)
	default:
		w.timer.Reset(trimPeriod)
	}
	w.armed = true
}

func (w *trimmers) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.armed = false
	maps.Copy(w.due, w.wide)
	clear(w.wide)
	if len(w.due) > 0 && w.running < mostTrimmers {
		w.running++
		go w.run()
	}
	if len(w.due) > 0 {
		w.arm() // others may be needed, if these are delayed
	}
}

func (w *trimmers) run() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.due) > 0 {
		q := w.next()
		w.mu.Unlock()
		done := q.trim()
		w.mu.Lock()
		if !done {
			w.wide[q] = struct{}{}
			w.arm()
		}
	}
	w.running--
}
