// Package work has what the queue pairs of the software transports do alike: they check what is
// posted, complete it in order, and flush what is left when the connection is over.
package work

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/internal/queue"
	"github.com/rdmanet/iwarp/transport/internal/regions"
	"github.com/rdmanet/iwarp/transport/internal/wait"
)

// A Driver is the queue pair that has a Pair.
type Driver interface {
	wait.Driver
	regions.Owner
	// SendsLeft reports whether there is something on the send queue.
	SendsLeft() bool
	// FlushSends flushes the send queue of a queue pair that has failed. None of it may be sent
	// any more, because its memory belongs to the callers again.
	FlushSends()
}

// A Pair is the part of a queue pair that does not depend on how bytes get to the peer: its state,
// completions, receives and registered memory. The queue pair embeds it.
//
// Mu may be taken while the lock of the send queue or that of Regions is held.
type Pair struct {
	Opts              Options
	Regions           regions.Table
	Crew              wait.Crew
	Waiting, Draining wait.Condition // of Wait and of Drain

	// Summaries of what Mu guards, for those who look often. They change with Mu held.
	healthy atomic.Bool // in StateRTS
	news    atomic.Bool // cq is not empty
	placed  atomic.Bool // a Placer had news that no call of Wait has returned for

	Mu        sync.Mutex
	state     transport.State
	err       error // why the queue pair is no longer in StateRTS
	cq        queue.Completions
	rq        queue.Receives[*regions.Region]
	word      [4]byte // what has come for the oldest receive, if that has no memory
	connected bool    // RTS was reached
	closed    bool    // Close or Abort was called
	leaving   bool    // something is still to be sent after the end; the send queue is not flushed meanwhile
}

// Init prepares the pair of d with options, of which nil means the defaults. The token of Crew is
// left to d.
func (p *Pair) Init(d Driver, o *transport.Options) {
	p.Opts = normalize(o)
	p.Regions.Owner = d
}

// driver returns the queue pair.
func (p *Pair) driver() Driver { return p.Regions.Owner.(Driver) }

// EnterRTS brings the queue pair to StateRTS, unless it has failed.
func (p *Pair) EnterRTS() error {
	p.Mu.Lock()
	defer p.Mu.Unlock()
	if p.err == nil {
		p.state, p.connected = transport.StateRTS, true
		p.healthy.Store(true)
	}
	return p.err
}

// Healthy reports whether the queue pair is in StateRTS.
func (p *Pair) Healthy() bool { return p.healthy.Load() }

// Ready returns why nothing can be posted to the send queue, or nil.
func (p *Pair) Ready() error {
	if p.healthy.Load() {
		return nil
	}
	p.Mu.Lock()
	defer p.Mu.Unlock()
	switch {
	case p.err != nil:
		return p.err
	case !p.connected:
		return transport.ErrNotConnected
	}
	return nil
}

// State implements transport.QueuePair.
func (p *Pair) State() transport.State {
	p.Mu.Lock()
	defer p.Mu.Unlock()
	return p.state
}

// Err implements transport.QueuePair.
func (p *Pair) Err() error {
	if p.healthy.Load() {
		return nil
	}
	p.Mu.Lock()
	defer p.Mu.Unlock()
	return p.err
}

// Ended is Err for a caller that holds Mu.
func (p *Pair) Ended() error { return p.err }

// End records why the queue pair leaves StateRTS, and wakes those who wait. It reports false if the
// queue pair had ended before.
func (p *Pair) End(state transport.State, err error) bool {
	p.Mu.Lock()
	defer p.Mu.Unlock()
	first := p.err == nil
	p.end(state, err)
	p.Crew.Wake()
	return first
}

// Leave is End for a queue pair that still has something to send, which is not flushed until Over.
// It reports false if the queue pair had ended before.
func (p *Pair) Leave(state transport.State, err error) bool {
	p.Mu.Lock()
	defer p.Mu.Unlock()
	if p.err != nil {
		return false
	}
	p.leaving = true
	p.end(state, err)
	p.Crew.Wake()
	return true
}

func (p *Pair) end(state transport.State, err error) {
	if p.err == nil {
		p.state, p.err = state, err
		p.healthy.Store(false)
	}
}

// A Farewell is how a connection was when it was closed.
type Farewell struct {
	Connected bool // it had been up
	InOrder   bool // it was up, and is not aborted: what was posted is still to be sent
	Leaving   bool // it had something to send after the end already
}

// Shut begins Close or Abort. It returns transport.ErrClosed if one of them was called before.
func (p *Pair) Shut(abort bool) (f Farewell, err error) {
	p.Mu.Lock()
	defer p.Mu.Unlock()
	if p.closed {
		return f, transport.ErrClosed
	}
	p.closed = true
	f = Farewell{Connected: p.connected, InOrder: p.err == nil && p.connected && !abort, Leaving: p.leaving && !abort}
	p.end(transport.StateClosing, transport.ErrClosed)
	if abort {
		p.state = transport.StateError
	}
	p.leaving = f.InOrder || f.Leaving
	p.Crew.Wake()
	return f, nil
}

// Leaving reports whether something is still to be sent after the end. The caller holds Mu.
func (p *Pair) Leaving() bool { return p.leaving }

// Over records that nothing more is sent. The caller holds Mu.
func (p *Pair) Over() {
	p.leaving = false
	if p.state == transport.StateClosing {
		p.state = transport.StateError
	}
	p.Crew.Wake()
}

// RegisterMemory implements transport.QueuePair.
func (p *Pair) RegisterMemory(b []byte, access transport.Access) (transport.MemoryRegion, error) {
	return p.register(&regions.Region{Access: access, Length: uint64(len(b)), Mem: b})
}

// RegisterPlacer implements transport.PlacerRegistrar.
func (p *Pair) RegisterPlacer(length uint64, to transport.Placer) (transport.MemoryRegion, error) {
	return p.register(&regions.Region{Access: transport.RemoteWrite | transport.CallerDriven, Length: length, Placer: to})
}

func (p *Pair) register(r *regions.Region) (transport.MemoryRegion, error) {
	if err := p.Err(); err != nil {
		return nil, err
	}
	if err := p.Regions.Add(r); err != nil {
		return nil, err
	}
	return r, nil
}

// Wait implements transport.QueuePair.
func (p *Pair) Wait(deadline time.Time) error { return p.WaitSince(p.Waiting.Begin(), deadline) }

// WaitSince is Wait for a call that has begun already, with what Begin has returned.
func (p *Pair) WaitSince(seen uint32, deadline time.Time) error {
	err := p.Crew.For(p.driver(), &p.Waiting, seen, deadline)
	if err == nil {
		p.TakePlaced()
	}
	return err
}

// Interrupt ends the calls of Wait and Drain. The caller then wakes the one that drives.
func (p *Pair) Interrupt() {
	p.Waiting.Interrupt()
	p.Draining.Interrupt()
	p.Crew.Wake()
}
