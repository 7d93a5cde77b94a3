package rdmanet

import (
	"errors"
	"sync"

	"github.com/rdmanet/iwarp/rdmanet/internal/wire"
	"github.com/rdmanet/iwarp/transport"
)

const (
	batchMessages = 8
	batchBytes    = 512 << 10 // where a Write drains; each costs both ends a wake-up
	stagedBytes   = 64 << 10  // a device sends while what follows is copied; smaller batches cost more than they gain
)

// A batch is a row of work requests that are posted together, with the memory of their words.
type batch struct {
	wrs     [2 * (batchMessages + 2)]transport.SendWR
	n       int
	words   [batchMessages + 2][wire.WordLen]byte
	w       int
	entry   [wire.SGELen]byte
	mapping [wire.IomapEntryLen]byte
	data    int // bytes of stream

	staged [batchMessages]struct{ to, from []byte } // to be copied before b is posted
	s      int
}

var batches = sync.Pool{New: func() any { return new(batch) }}

func (b *batch) release() {
	clear(b.wrs[:b.n])
	clear(b.staged[:b.s])
	b.n, b.w, b.data, b.s = 0, 0, 0, 0
	batches.Put(b)
}

func (b *batch) add(wr transport.SendWR) {
	b.wrs[b.n] = wr
	b.n++
}

// fill copies what will be sent from the stage to it.
func (b *batch) fill() {
	for _, m := range b.staged[:b.s] {
		copy(m.to, m.from)
	}
}

// addWord adds w. It goes as a Send, or as an empty RDMA Write with Immediate.
func (c *Conn) addWord(b *batch, w wire.Word, flags transport.Flags) {
	c.addMessage(b, transport.SendWR{Flags: flags}, w, 0)
}

// addMessage adds an RDMA Write and the word after it, as one request or as two. An empty Write to
// nowhere is left out. staged is how many bytes of the stage it takes. The caller holds sendMu and
// mu.
func (c *Conn) addMessage(b *batch, wr transport.SendWR, w wire.Word, staged int) {
	flags := wr.Flags &^ (transport.Inline | transport.Lent) // the word's memory is used again once it is posted
	if c.immediate {
		wr.Opcode, wr.Immediate = transport.OpWriteImmediate, uint32(w)
		if len(wr.Data) == 0 {
			wr.Flags |= transport.Inline
		}
		id, signal := c.stage.posted(1, staged)
		wr.ID = id
		wr.Flags |= signal
		b.add(wr)
		return
	}
	entries := 1
	if len(wr.Data) > 0 {
		entries = 2
		wr.Opcode = transport.OpWrite
		b.add(wr)
	}
	mem := b.words[b.w][:]
	b.w++
	c.order.PutUint32(mem, uint32(w))
	id, signal := c.stage.posted(entries, staged)
	b.add(transport.SendWR{ID: id, Opcode: transport.OpSend, Flags: transport.Inline | flags | signal, Data: mem})
}

// chunk returns how many bytes one request may carry. Where a word follows, they can be read only
// once it has come. The caller holds mu.
func (c *Conn) chunk() int {
	switch n := c.out.Piece(); {
	case c.out.Wordless && c.stage.bare():
		return batchBytes
	case n > 0 && !c.out.Wordless:
		return n
	}
	return maxChunk
}

// sendable returns as much of p as one request can carry, which may be nothing, and whether it goes
// by way of the stage. The caller holds mu.
func (c *Conn) sendable(p []byte) (data []byte, staged bool) {
	p = p[:min(len(p), c.chunk())]
	switch {
	case !c.stage.ready(len(p)):
		return nil, false
	case !c.stage.inlines(len(p)):
		// This includes what the end of the stage cuts short, or there would be as little room for the
		// next piece.
		return p[:min(len(p), c.stage.room())], true
	}
	return p, false
}

// payload begins a request that carries data, which sendable has returned, or part of it. taken is
// how many bytes of the stage it takes. The caller holds sendMu and mu.
func (c *Conn) payload(b *batch, data []byte, staged bool, flags transport.Flags) (wr transport.SendWR, taken int) {
	if !staged {
		if flags&transport.WillDrain != 0 {
			flags |= transport.Lent
		}
		return transport.SendWR{Flags: flags | transport.Inline, Data: data}, 0
	}
	to := c.stage.take(len(data))
	b.staged[b.s].to, b.staged[b.s].from = to, data
	b.s++
	return transport.SendWR{Flags: flags, Data: to, Region: c.stage.region}, len(data)
}

// addWrite adds an RDMA Write that no word follows. staged is how many bytes of the stage it takes.
// The caller holds sendMu and mu.
func (c *Conn) addWrite(b *batch, wr transport.SendWR, staged int) {
	wr.Opcode = transport.OpWrite
	id, signal := c.stage.posted(1, staged)
	wr.ID = id
	wr.Flags |= signal
	b.add(wr)
}

// addData adds messages with the first bytes of p, as many as the peer and the batch have room for,
// and returns the number of bytes. The caller holds sendMu and mu.
func (c *Conn) addData(b *batch, p []byte, flags transport.Flags) (n int) {
	for messages := 0; n < len(p) && messages < batchMessages; messages++ {
		data, staged := c.sendable(p[n:])
		to := c.out.Take(len(data))
		if to.Length == 0 {
			break
		}
		wr, taken := c.payload(b, data[:to.Length], staged, flags)
		wr.RemoteSTag, wr.RemoteOffset = transport.STag(to.Key), to.Addr
		if c.out.Wordless {
			c.addWrite(b, wr, taken)
		} else {
			c.addMessage(b, wr, wire.MakeWord(wire.OpData, to.Length), taken)
		}
		n += int(to.Length)
		c.stats.Sent(int(to.Length), 1)
	}
	if !c.out.Wordless {
		c.stats.SetCredits(c.out.Credits())
	}
	return n
}

// post posts b. It never waits: the stage makes sure that there is room. The caller holds sendMu.
func (c *Conn) post(b *batch) error {
	wrs := b.wrs[:b.n]
	for {
		n, err := c.qp.PostSend(wrs)
		if n == 0 || !errors.Is(err, transport.ErrQueueFull) {
			return err
		}
		wrs = wrs[n:] // the queue takes some at a time
	}
}

// postAndRelease posts b, and lets go of sendMu and b.
func (c *Conn) postAndRelease(b *batch) error {
	err := c.post(b)
	c.sendMu.Unlock()
	b.release()
	if err != nil {
		c.sendFailed(err)
	}
	return err
}

// sendFailed records that nothing more can be sent.
func (c *Conn) sendFailed(err error) {
	c.mu.Lock()
	if c.sendErr() == nil {
		c.aftermath().sendErr = err
		c.showState()
	}
	interrupt := c.interrupts(&c.wr)
	c.mu.Unlock()
	if interrupt {
		c.qp.Interrupt()
	}
}
