package work

import (
	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/internal/queue"
	"github.com/rdmanet/iwarp/transport/internal/wait"
)

// HasCompletions implements transport.CompletionTeller.
func (p *Pair) HasCompletions() bool { return p.news.Load() || !p.healthy.Load() }

// Poll implements transport.QueuePair.
func (p *Pair) Poll(wc []transport.Completion) int {
	if !p.HasCompletions() {
		return 0
	}
	p.Mu.Lock()
	n, failed, leaving := p.collect(wc), p.err != nil, p.leaving
	p.Mu.Unlock()
	if n > 0 || !failed {
		return n
	}
	if !leaving {
		p.driver().FlushSends()
	}
	p.Mu.Lock()
	defer p.Mu.Unlock()
	n = p.collect(wc)
	for n < len(wc) {
		r, ok := p.rq.Head()
		if !ok {
			break
		}
		p.rq.Pop()
		wc[n] = transport.Completion{ID: r.ID, Opcode: transport.OpRecv, Status: transport.StatusFlushed}
		n++
	}
	return n
}

// Holds implements wait.Driver for Waiting.
func (p *Pair) Holds(*wait.Condition) (bool, error) { return p.pollable() }

// pollable reports whether Poll would return something or a Placer had news, and otherwise why that
// will never happen again.
func (p *Pair) pollable() (bool, error) {
	if p.news.Load() || p.placed.Load() {
		return true, nil
	}
	if p.healthy.Load() {
		return false, nil
	}
	p.Mu.Lock()
	if p.cq.Len() > 0 || p.err != nil && p.rq.Len() > 0 {
		p.Mu.Unlock()
		return true, nil
	}
	err := p.err
	p.Mu.Unlock()
	if err == nil {
		return false, nil
	}
	// Whoever ends the queue pair by a Terminate flushes the send queue before its lock is free.
	left := p.driver().SendsLeft()
	p.Mu.Lock()
	defer p.Mu.Unlock()
	if p.cq.Len() > 0 || left && !p.leaving {
		return true, nil
	}
	return false, err
}

// News reports whether a call of Wait may have something to return.
func (p *Pair) News() bool { return p.news.Load() || p.placed.Load() || !p.healthy.Load() }

// TakePlaced reports whether a call of Wait is to return for what was placed; what is placed from
// then on is news again.
func (p *Pair) TakePlaced() bool {
	if !p.placed.Load() {
		return false
	}
	p.placed.Store(false)
	return true
}

// collect moves completions to wc. The caller holds Mu.
func (p *Pair) collect(wc []transport.Completion) int {
	n := p.cq.Pop(wc)
	p.news.Store(p.cq.Len() > 0)
	return n
}

// complete queues a completion. The caller holds Mu.
func (p *Pair) complete(c transport.Completion) {
	p.cq.Push(c)
	p.news.Store(true)
	p.Crew.Wake()
}

// Retire completes what is done of a send queue. It reports whether that made completions, and
// whether it emptied the queue. The caller holds the lock of the queue.
func (p *Pair) Retire(sq *queue.Sends) (news, emptied bool) {
	if sq.Len() == 0 || sq.At(0).State != queue.SendDone {
		return false, false
	}
	for sq.Len() > 0 && sq.At(0).State == queue.SendDone {
		e := sq.At(0)
		if e.WR.Flags&transport.Signaled != 0 || e.Status != transport.StatusSuccess {
			c := transport.Completion{ID: e.WR.ID, Opcode: e.WR.Opcode, Status: e.Status}
			if e.WR.Opcode == transport.OpRead {
				c.Bytes = len(e.WR.Data)
			}
			p.Mu.Lock()
			p.complete(c)
			p.Mu.Unlock()
			news = true
		}
		sq.Pop()
	}
	if sq.Len() > 0 {
		return news, false
	}
	p.wakeFollowers()
	return news, true
}

// wakeFollowers tells them of news that needs no lock to be seen. A follower that is not counted
// yet finds it before it sleeps.
func (p *Pair) wakeFollowers() {
	if p.Crew.Followed() {
		p.Crew.Wake()
	}
}

// TellPlaced makes a call of Wait return for what was placed. Whoever places also drives, so only
// followers have to be woken.
func (p *Pair) TellPlaced() {
	if !p.placed.Load() {
		p.placed.Store(true)
		p.wakeFollowers()
	}
}
