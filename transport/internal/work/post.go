package work

import (
	"errors"
	"math"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/internal/queue"
	"github.com/rdmanet/iwarp/transport/internal/regions"
)

// MaxMessage is the longest RDMAP message (RFC 5041 §5.2).
const MaxMessage = math.MaxUint32

var (
	errNoLocalRegion = errors.New("work request needs a live local region of this queue pair with the right access")
	errNotInRegion   = errors.New("data does not lie in its memory region")
	errTooLong       = errors.New("message is longer than 2^32-1 bytes; split it")
	errOpcode        = errors.New("opcode cannot be posted to a send queue")
	errNoReads       = errors.New("the peer accepts no rdma reads on this connection")
	errInlineRead    = errors.New("an rdma read cannot be inline")
)

// PostRecv implements transport.QueuePair.
func (p *Pair) PostRecv(wrs []transport.RecvWR) (int, error) {
	p.Regions.RLock()
	defer p.Regions.RUnlock()
	p.Mu.Lock()
	defer p.Mu.Unlock()
	if p.err != nil {
		return 0, p.err
	}
	var live *regions.Region // the last one that was looked up
	for i := range wrs {
		if p.rq.Len() == int(p.Opts.RecvDepth) {
			return i, transport.ErrQueueFull
		}
		r, _ := wrs[i].Region.(*regions.Region)
		if r == nil || r != live && !p.Regions.Live(r) || r.Access&transport.LocalWrite == 0 {
			return i, errNoLocalRegion
		}
		live = r
		if _, ok := r.Offset(wrs[i].Data); !ok && len(wrs[i].Data) > 0 {
			return i, errNotInRegion
		}
		p.rq.Push(&wrs[i], r)
	}
	return len(wrs), nil
}

// PostWords implements transport.WordReceiver.
func (p *Pair) PostWords(id uint64, n int) (int, error) {
	p.Mu.Lock()
	defer p.Mu.Unlock()
	if p.err != nil {
		return 0, p.err
	}
	room := int(p.Opts.RecvDepth) - p.rq.Len()
	if n > room {
		p.rq.PushBare(id, room)
		return room, transport.ErrQueueFull
	}
	p.rq.PushBare(id, n)
	return n, nil
}

// Enqueue checks work requests and puts them on a send queue, up to the first that cannot be taken.
// ord bounds the reads under way. drained is true if all were taken and each has WillDrain: their
// caller will stay with them. The caller holds the lock of the queue.
func (p *Pair) Enqueue(sq *queue.Sends, wrs []transport.SendWR, ord int) (n int, drained bool, err error) {
	drained = true
	for i := range wrs {
		wr := &wrs[i]
		if sq.Len() == int(p.Opts.SendDepth) {
			return i, false, transport.ErrQueueFull
		}
		to, err := p.check(wr, ord)
		if err != nil {
			return i, false, err
		}
		sq.Push(wr, to)
		drained = drained && wr.Flags&transport.WillDrain != 0
	}
	return len(wrs), drained, nil
}

// check finds what is wrong with a work request before it is queued.
func (p *Pair) check(wr *transport.SendWR, ord int) (sinkTO uint64, err error) {
	if uint64(len(wr.Data)) > MaxMessage {
		return 0, errTooLong
	}
	switch wr.Opcode {
	case transport.OpRead:
		switch {
		case wr.Flags&transport.Inline != 0:
			return 0, errInlineRead
		case ord == 0:
			return 0, errNoReads
		}
		return p.local(wr, transport.LocalWrite)
	case transport.OpSend, transport.OpSendInvalidate, transport.OpWrite:
		if wr.Flags&transport.Inline != 0 || len(wr.Data) == 0 {
			return 0, nil
		}
		return p.local(wr, 0)
	}
	return 0, errOpcode
}

// local finds where the data of wr lies in its region, which must have the access.
func (p *Pair) local(wr *transport.SendWR, access transport.Access) (uint64, error) {
	r, _ := wr.Region.(*regions.Region)
	if r == nil || r.Access&access != access || !p.Regions.Holds(r) {
		return 0, errNoLocalRegion
	}
	to, ok := r.Offset(wr.Data)
	if !ok && len(wr.Data) > 0 {
		return 0, errNotInRegion
	}
	return to, nil
}
