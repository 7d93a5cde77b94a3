package shm

import (
	"sync"
	"time"
)

// background is the goroutine that drives while nobody else does but somebody should: the peer may
// use memory here at any time, or something is left to be sent.
type background struct {
	mu      sync.Mutex
	running bool
}

// untended reports whether the background has nothing to do, and otherwise why it never will.
func (q *queuePair) untended() (bool, error) {
	if err := q.Err(); err != nil {
		return false, err
	}
	return !q.tx.pending.Load() && !q.Regions.Exposed(), nil
}

// tend makes sure that there is a background where there is something for it to do.
func (q *queuePair) tend() {
	idle, err := q.untended()
	q.background.mu.Lock()
	defer q.background.mu.Unlock()
	switch {
	case err == nil && !idle && !q.background.running && q.Healthy():
		q.background.running = true
		go q.serve()
	case idle && q.background.running && q.sleep.on.Load() == &q.tending:
		q.kick()
	}
}

// serve is the background.
func (q *queuePair) serve() {
	for {
		err := q.Crew.For(q, &q.tending, q.tending.Begin(), time.Time{})
		q.background.mu.Lock()
		if idle, _ := q.untended(); idle || err != nil {
			q.background.running = false
			q.background.mu.Unlock()
			return
		}
		q.background.mu.Unlock()
	}
}

// leaveOutput makes sure that what is left is sent when the caller no longer does so.
func (q *queuePair) leaveOutput() {
	if q.tx.pending.Load() {
		q.tend()
	}
}
