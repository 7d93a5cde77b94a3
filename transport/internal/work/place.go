package work

import "github.com/rdmanet/iwarp/transport"

// A Verdict says what is wrong with a message of the peer's.
type Verdict uint8

const (
	Fine     Verdict = iota
	NoBuffer         // nothing is posted, or the queue pair has ended
	TooLong          // for the oldest receive
	NoMemory         // the memory of the oldest receive is no longer registered
)

// PlaceSend places a part of a Send in the oldest receive, from off on; it may be in two pieces.
// Unless done is nil it was the last part, and done, which gets the ID of the receive, is its
// completion.
func (p *Pair) PlaceSend(off uint64, a, b []byte, done *transport.Completion) Verdict {
	// Held while bytes are placed: a receive that is flushed, or whose region is gone, is no longer
	// written to.
	p.Regions.RLock()
	defer p.Regions.RUnlock()
	p.Mu.Lock()
	defer p.Mu.Unlock()
	r, ok := p.rq.Head()
	if p.err != nil || !ok {
		return NoBuffer
	}
	n := uint64(len(a) + len(b))
	mem := r.Mem
	if r.Region == nil {
		mem = p.word[:]
	}
	if room := uint64(len(mem)); off > room || n > room-off {
		p.takeRecv(transport.Completion{Opcode: transport.OpRecv, Status: transport.StatusLocalLength})
		return TooLong
	}
	if n > 0 && r.Region != nil && !p.Regions.Live(r.Region) {
		p.takeRecv(transport.Completion{Opcode: transport.OpRecv, Status: transport.StatusLocalProtection})
		return NoMemory
	}
	copy(mem[off:], a)
	copy(mem[off+uint64(len(a)):], b)
	if done != nil {
		p.takeRecv(*done)
	}
	return Fine
}

// TakeRecv takes the oldest receive off its queue with c, which gets its ID.
func (p *Pair) TakeRecv(c transport.Completion) {
	p.Mu.Lock()
	p.takeRecv(c)
	p.Mu.Unlock()
}

func (p *Pair) takeRecv(c transport.Completion) {
	r, ok := p.rq.Head()
	if !ok {
		return // flushed meanwhile
	}
	c.ID = r.ID
	if r.Region == nil {
		c.Word, p.word = p.word, [4]byte{}
	}
	p.rq.Pop()
	p.complete(c)
}
