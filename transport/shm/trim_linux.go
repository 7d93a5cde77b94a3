package shm

import (
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Only the sender knows which pages of a ring nobody uses, so it gives back those of a connection
// that has fallen idle, all but the first.

// trimPeriod is how often the connections are looked at that have used more than the first page.
// One that has sent nothing since the look before is idle.
const trimPeriod = time.Second

// A surplus is what a transmitter knows about the pages of the peer's ring. tx.mu guards it.
type surplus struct {
	wide     bool   // more than the first page was used
	last     uint64 // how much had been written at the last look
	trimming bool   // pages are being given back: nothing may be written
}

// spread is called when the ring is used beyond its first page. The caller holds tx.mu.
func (q *queuePair) spread() {
	q.tx.wide = true
	q.tx.last = 0
	trims.add(q)
}

// trim gives back the pages that nobody uses if the connection is idle. It reports whether there is
// nothing more to give back. The kernel lets a peer delay that for as long as it likes, so no lock
// is held meanwhile.
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

// mostTrimmers bounds those that a peer can delay.
const mostTrimmers = 4

var trims trimmers

// Trimmers look at connections from time to time, while there are some that they should look at.
type trimmers struct {
	mu      sync.Mutex
	wide    map[*queuePair]struct{} // that are not in due
	due     []*queuePair
	running int
	timer   *time.Timer
	armed   bool
}

func (w *trimmers) add(q *queuePair) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.wide == nil {
		w.wide = make(map[*queuePair]struct{})
	}
	w.wide[q] = struct{}{}
	w.arm()
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
	for q := range w.wide {
		w.due = append(w.due, q)
	}
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
		q := w.due[len(w.due)-1]
		w.due = w.due[:len(w.due)-1]
		w.mu.Unlock()
		done := q.trim()
		w.mu.Lock()
		if !done {
			w.wide[q] = struct{}{}
			w.arm()
		}
	}
	w.due = nil
	w.running--
}
