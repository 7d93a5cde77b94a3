//go:build amd64 || arm64

package rnic

import (
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// A sleeper waits on the completion channel in Go's poller.
type sleeper struct {
	f     *os.File
	rc    syscall.RawConn
	ready func(uintptr) bool // made once, so that no call allocates

	most, budget time.Duration // of looking for completions before sleep

	mu       sync.Mutex
	deadline time.Time // that the file has
	asleep   bool
	kicked   bool
}

var past = time.Unix(1, 0)

func (s *sleeper) init(q *queuePair, poll time.Duration) {
	s.most, s.budget = poll, poll
	s.ready = func(uintptr) bool { return q.takeEvent() }
}

// begin sets the deadline of the sleep to come. After it a kick ends that.
func (s *sleeper) begin(deadline time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asleep = true
	if s.kicked || !s.deadline.Equal(deadline) {
		_ = s.f.SetReadDeadline(deadline)
		s.deadline, s.kicked = deadline, false
	}
}

func (s *sleeper) done() {
	s.mu.Lock()
	s.asleep = false
	s.mu.Unlock()
}

func (s *sleeper) kick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asleep && !s.kicked {
		_ = s.f.SetReadDeadline(past)
		s.kicked = true
	}
}

// spin calls found until it returns true or the time for that is up. Where that leads to nothing,
// less time is spent on it.
func (s *sleeper) spin(found func() bool) {
	if s.most == 0 {
		return
	}
	s.mu.Lock()
	budget := s.budget
	s.mu.Unlock()
	for end := time.Now().Add(budget); ; runtime.Gosched() {
		switch {
		case found():
			budget = min(2*budget, s.most)
		case !time.Now().Before(end):
			budget = max(budget/2, s.most/8)
		default:
			continue
		}
		s.mu.Lock()
		s.budget = budget
		s.mu.Unlock()
		return
	}
}

// takeEvent asks for an event with the next completion, and reports whether there are completions,
// or the sleeper should look up for another reason. The runtime's poller calls it again when the
// channel has something.
func (q *queuePair) takeEvent() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.remains.usable() {
		s := getScratch()
		defer s.release()
		if q.armed {
			if r := s.call(q.lib.ibvGetCQEvent, q.channel, ptr(&s.out[0]), ptr(&s.out[1])); int32(r) != 0 {
				return false // nothing yet
			}
			q.events++
			q.armed = false
			if q.reapSome() > 0 {
				q.crew.Wake()
				return true
			}
		}
		s.call(q.reqNotify, q.cq, 0, 0)
		q.armed = true
		// An event that comes from here on wakes the poller.
		if q.reapSome() > 0 {
			q.crew.Wake()
			return true
		}
		return false
	}
	return true
}
