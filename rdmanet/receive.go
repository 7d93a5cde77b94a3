package rdmanet

import (
	"sync"
	"time"
	"weak"

	"github.com/rdmanet/iwarp/rdmanet/internal/wire"
	"github.com/rdmanet/iwarp/transport"
)

type completions [32]transport.Completion

var completionPool = sync.Pool{New: func() any { return new(completions) }}

// poll acts on all completions that have come. Only the driver may call it.
func (c *Conn) poll() {
	wc := completionPool.Get().(*completions)
	var o outcome
	for more := true; more; {
		n := c.qp.Poll(wc[:])
		if n == 0 {
			break // bytes were placed
		}
		o = c.handleCompletions(wc[:n])
		more = n == len(wc) && o.err == nil && !o.lost
	}
	completionPool.Put(wc)
	if o.segment > 0 {
		_ = c.qp.SetMaxSegment(o.segment)
		c.showSegment()
	}
	switch {
	case o.err != nil:
		c.reject()
	case o.disconnected:
		// Both directions have ended. The peer need not wait for our Close to be done.
		c.closeLast()
	case o.lost:
		c.ended(c.qp.Err())
	case o.small && c.slots.grow(c.qp):
		c.mu.Lock()
		c.in.Widen(c.slots.window)
		c.mu.Unlock()
		c.give()
	case o.due:
		c.give()
	}
}

// reject ends the connection for the peer's fault.
func (c *Conn) reject() {
	if t, ok := transport.As[transport.Terminator](c.qp); ok {
		t.Terminate()
	} else {
		_ = c.qp.Abort()
	}
}

// closeLast closes the queue pair after the peer's last word.
func (c *Conn) closeLast() {
	if t, ok := transport.As[transport.LastCloser](c.qp); ok {
		_ = t.CloseLast()
	} else {
		_ = c.qp.Close()
	}
}

// An outcome says what must be done once completions have been acted on.
type outcome struct {
	err          error // what the peer did wrong
	lost         bool  // the queue pair has ended
	disconnected bool  // the peer has closed
	due          bool  // the peer must be told of space or credits
	small        bool  // many messages are under way, so they are small
	segment      int   // size of the largest FPDU from now on, if that has changed
}

// handleCompletions acts on completions.
func (c *Conn) handleCompletions(wc []transport.Completion) (o outcome) {
	done := 0
	c.mu.Lock()
	for i := range wc {
		w := &wc[i]
		if !isReceive(w) {
			if w.Status == transport.StatusSuccess {
				c.stage.sent(w.ID)
				c.wr.rouse()
			}
			continue
		}
		if o.lost = w.Status == transport.StatusFlushed; o.lost || c.peer.disconnected() || c.released {
			break
		}
		var m wire.Word
		if m, o.err = c.received(w); o.err == nil {
			o.err = c.message(m)
		}
		if o.err != nil {
			break
		}
		done++
	}
	if o.err != nil {
		c.fail(o.err)
	}
	o.disconnected = c.peer.disconnected()
	o.segment = c.out.NewSegment()
	if !c.extended && !c.immediate && c.in.Watch() {
		w := weak.Make(c)
		time.AfterFunc(keepTime, func() {
			if c := w.Value(); c != nil {
				c.seeWhetherKept()
			}
		})
	}
	o.small = c.in.CreditsDue(2)
	o.due = c.grantDue(2) || c.confirmDue()
	c.mu.Unlock()
	for i := 0; done > 0; i++ {
		if isReceive(&wc[i]) {
			done--
			// It fails only when the queue pair has ended, which the next completions will say.
			_ = c.slots.used(c.qp, uint32(wc[i].ID))
		}
	}
	return o
}

func isReceive(w *transport.Completion) bool {
	return w.Opcode == transport.OpRecv || w.Opcode == transport.OpRecvImmediate
}

// received returns the word that came with a receive. The caller holds mu.
func (c *Conn) received(w *transport.Completion) (wire.Word, error) {
	switch {
	case w.Status != transport.StatusSuccess && w.Status != transport.StatusLocalLength:
		return 0, wire.Violation("message failed: " + w.Status.String())
	case w.Status != transport.StatusSuccess:
		return 0, wire.Violation("message is not one word of 4 bytes")
	case c.immediate != (w.Opcode == transport.OpRecvImmediate):
		return 0, wire.Violation("word comes in the wrong kind of message")
	case c.immediate:
		return wire.Word(w.Immediate), nil
	case w.Bytes != wire.WordLen:
		return 0, wire.Violation("message is not one word of 4 bytes")
	}
	mem := w.Word[:]
	if !c.slots.bare {
		mem, _ = c.slots.slot(uint32(w.ID))
	}
	return wire.Word(c.order.Uint32(mem)), nil
}

// message acts on a word from the peer. It returns what is wrong with the word. The caller holds
// mu.
func (c *Conn) message(w wire.Word) error {
	switch w.Op() {
	case wire.OpData:
		if err := c.in.Message(); err != nil {
			return err
		}
		if c.peer.finished() {
			return wire.ErrDataAfterEnd
		}
		if c.ring.Wordless {
			if c.out.Wordless {
				return wire.Violation("word about data that needs none")
			}
			return nil // the peer does not know that
		}
		if err := c.ring.Announce(uint64(w.Value())); err != nil {
			return err
		}
		c.stats.Arrived(int(w.Value()))
		c.rd.rouse()
	case wire.OpIomap:
		return c.iomap(w.Value())
	case wire.OpLimit:
		if err := c.out.Update(uint16(w.Value())); err != nil {
			return err
		}
		c.stats.Given(c.out.Space(), c.out.Credits())
		c.wr.rouse()
	case wire.OpCtrl:
		c.peer.hear(w.Value())
		c.showState()
		switch w.Value() {
		case wire.CtrlDisconnect:
			c.peerGone.Store(true)
			c.rd.rouse()
			c.wr.rouse()
		case wire.CtrlUnread:
			c.peerLeftUnread = true
		case wire.CtrlShutdown:
			c.peerShut = true
			c.rd.rouse()
		}
	default:
		return wire.Violation("reserved operation")
	}
	return nil
}
