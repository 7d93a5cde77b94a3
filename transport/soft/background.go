package soft

import (
	"sync"
	"time"
)

// background holds what is known about the goroutines that run on demand.
type background struct {
	mu      sync.Mutex
	quit    chan struct{} // ends the reader; nil while there is none
	stalls  int32         // callers of Drain that a peer blocks by not reading, and output that waits for something from the peer
	reading bool          // the reader holds the receive token
	writing bool          // a goroutine finishes output; guarded by tx.mu
}

// serveExposed starts or ends the reader after a change in what needs it.
func (q *queuePair) serveExposed() {
	q.background.mu.Lock()
	defer q.background.mu.Unlock()
	b := &q.background
	wanted := b.stalls > 0 || q.Regions.Exposed()
	switch {
	case wanted && b.quit == nil && q.Ready() == nil:
		b.quit = make(chan struct{})
		go q.read(b.quit)
	case !wanted && b.quit != nil:
		close(b.quit)
		b.quit = nil
		if b.reading {
			q.sock.kickReader()
		}
	}
}

func (b *background) stall(q *queuePair, n int) {
	b.mu.Lock()
	b.stalls += int32(n)
	b.mu.Unlock()
	q.serveExposed()
}

// read drives the receive side whenever nobody else does, until quit is closed.
func (q *queuePair) read(quit chan struct{}) {
	b := &q.background
	for q.Crew.Await(&q.Crew.Token, quit) {
		// Marked before quit is looked at, so that whoever closes it kicks.
		b.setReading(true)
		q.sock.setReadDeadline(q.rx.stallDeadline(q, time.Time{}))
		end := isClosed(quit) || q.Err() != nil
		if !end {
			_ = q.receive(nil, true)
		}
		b.setReading(false)
		pause := q.rx.turn.end()
		q.giveRx()
		if end {
			b.mu.Lock()
			if b.quit == quit {
				b.quit = nil
			}
			b.mu.Unlock()
			return
		}
		pause.Take(quit, time.Time{})
	}
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func (b *background) setReading(on bool) {
	b.mu.Lock()
	b.reading = on
	b.mu.Unlock()
}

// finishOutput starts a goroutine that sends what the kernel did not take, unless one is running.
// The caller holds tx.mu.
func (q *queuePair) finishOutput() {
	if q.background.writing {
		return
	}
	q.background.writing = true
	go func() {
		for q.Crew.Await(&q.tx.token, nil) {
			if q.Err() == nil {
				q.driveOutput(time.Time{}, false, 0)
			}
			q.Crew.Give(&q.tx.token)
			over := q.Err() != nil
			q.tx.mu.Lock()
			if over || !q.tx.blocked || q.tx.err != nil {
				q.background.writing = false
				if !over {
					q.leaveToBackground()
				}
				q.tx.mu.Unlock()
				return
			}
			q.tx.mu.Unlock()
		}
	}()
}
