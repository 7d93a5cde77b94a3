//go:build amd64 || arm64

package rnic

import (
	"sync"
	"time"
)

// A pending is a connection request that nobody has looked at yet.
type pending struct {
	id      *cmID
	private []byte
	reads   readLimits
	came    time.Time
}

// pendings are the connection requests that wait for Accept, the oldest first. Those that are too
// many, or too old, are refused by whoever finds that, as refusing waits for nobody: peers that ask
// faster than that wait in the kernel's queue.
type pendings struct {
	max    int
	limit  time.Duration
	refuse func(p *pending, noRoom bool)
	ready  chan struct{} // has an element if there may be something to take

	mu     sync.Mutex
	list   []pending
	aging  *time.Timer // set while it runs, which it does while the list is not empty
	closed bool
}

func newPendings(n int, limit time.Duration, refuse func(p *pending, noRoom bool)) *pendings {
	return &pendings{max: n, limit: limit, refuse: refuse, ready: make(chan struct{}, n)}
}

func (ps *pendings) add(p pending) {
	p.came = time.Now()
	ps.mu.Lock()
	old := ps.expire(p.came)
	closed, full := ps.closed, len(ps.list) >= ps.max
	if !closed && !full {
		ps.list = append(ps.list, p)
		ps.age(p.came)
	}
	ps.mu.Unlock()
	ps.drop(old)
	if closed || full {
		ps.refuse(&p, !closed)
	}
	select {
	case ps.ready <- struct{}{}:
	default: // everybody is woken already
	}
}

// take returns the oldest request, if there is one.
func (ps *pendings) take() (p pending, ok bool) {
	ps.mu.Lock()
	old := ps.expire(time.Now())
	if ok = len(ps.list) > 0; ok {
		p, ps.list = ps.list[0], ps.list[1:]
	}
	ps.mu.Unlock()
	ps.drop(old)
	return p, ok
}

// close refuses what is there and what is still to come.
func (ps *pendings) close() {
	ps.mu.Lock()
	old := ps.list
	ps.list, ps.closed = nil, true
	if ps.aging != nil {
		ps.aging.Stop()
	}
	ps.mu.Unlock()
	ps.drop(old)
}

// expire takes out the requests that are too old. The caller holds mu, and drops them without it.
func (ps *pendings) expire(now time.Time) (old []pending) {
	for len(ps.list) > 0 && now.Sub(ps.list[0].came) >= ps.limit {
		old = append(old, ps.list[0])
		ps.list = ps.list[1:]
	}
	return old
}

// age sees to those that grow too old even if nobody calls. The caller holds mu.
func (ps *pendings) age(now time.Time) {
	if ps.aging != nil || ps.closed || len(ps.list) == 0 {
		return
	}
	ps.aging = time.AfterFunc(ps.limit-now.Sub(ps.list[0].came), func() {
		now := time.Now()
		ps.mu.Lock()
		old := ps.expire(now)
		ps.aging = nil
		ps.age(now)
		ps.mu.Unlock()
		ps.drop(old)
	})
}

func (ps *pendings) drop(list []pending) {
	for i := range list {
		ps.refuse(&list[i], false)
	}
}
