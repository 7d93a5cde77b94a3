package shm

import (
	"sync"
	"sync/atomic"
	"time"
)

// watchPeriod is how often the connections are checked on which somebody sleeps.
const watchPeriod = 25 * time.Millisecond

// A watcher finds out which peers went away while nobody slept, so that no sleep need begin with a
// system call. It has a timer while there may be something to find.
type watcher struct {
	armed atomic.Bool
	looks atomic.Uint32

	mu    sync.Mutex
	m     map[*queuePair]struct{}
	timer *time.Timer
}

// watched is what the watcher knows about a connection.
type watched struct {
	lastNight uint64 // that it saw
	awake     uint64 // the night in which the peer was alive after it had begun
}

var watch watcher

func (w *watcher) add(q *queuePair) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.m == nil {
		w.m = make(map[*queuePair]struct{})
	}
	w.m[q] = struct{}{}
}

func (w *watcher) remove(q *queuePair) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.m, q)
}

// arm is called by whoever goes to sleep, or writes to a peer that may be dead.
func (w *watcher) arm() {
	if w.armed.Load() || !w.armed.CompareAndSwap(false, true) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.start()
}

// start makes sure that look is called after a while. The caller holds mu.
func (w *watcher) start() {
	if w.timer == nil {
		w.timer = time.AfterFunc(watchPeriod, w.look)
		return
	}
	w.timer.Reset(watchPeriod)
}

func (w *watcher) look() {
	countProcessors()
	w.looks.Add(1)
	w.armed.Store(false) // those who go to sleep from now on arm it again, the others are seen
	w.mu.Lock()
	defer w.mu.Unlock()
	again := false
	for q := range w.m {
		again = q.watch() || again
	}
	if again && w.armed.CompareAndSwap(false, true) {
		w.start()
	}
}

// watch checks on the peer if somebody sleeps, until one has done so since before the last look. It
// reports whether another look is due.
func (q *queuePair) watch() (again bool) {
	night := q.sleep.nights.Load()
	if night%2 == 0 || night == q.awake {
		return false
	}
	dead := false
	if q.raw.Control(func(fd uintptr) { dead = hungUp(fd) }) != nil {
		return false
	}
	switch {
	case dead:
		q.sleep.died.Store(true)
		q.kick()
		return false
	case night != q.lastNight:
		q.lastNight = night
		return true
	case q.sleep.dozer.wake():
		return true // until it has got up: it may only now be about to doze
	}
	q.awake = night // the poller reports an end from then on
	return false
}
