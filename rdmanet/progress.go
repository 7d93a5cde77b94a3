package rdmanet

import (
	"sync"
	"time"
	"weak"

	"github.com/rdmanet/iwarp/transport"
)

// await lets some time pass in which something may change for s, until deadline at the latest. The
// caller holds mu, which is released meanwhile, and looks at its condition again.
//
// The first who waits becomes the driver, and stays it until leave: it waits for the queue pair,
// and wakes the other side.
func (c *Conn) await(s *side, deadline time.Time) {
	if c.driver != nil && c.driver != s {
		c.park(s, deadline)
		return
	}
	c.driver = s
	c.mu.Unlock()
	c.drive(deadline)
	c.mu.Lock()
}

// looking is the side of calls that only look.
var looking side

// look acts on what has arrived, in up to so many steps, unless a call of another side than s does
// that anyhow. The caller holds mu, which is released meanwhile.
func (c *Conn) look(s *side, steps int) {
	if c.driver != nil && c.driver != s {
		return
	}
	c.driver = s
	c.mu.Unlock()
	if l, ok := transport.As[transport.Looker](c.qp); ok {
		for steps > 0 && l.Look() {
			steps--
		}
	}
	c.drive(inThePast)
	c.mu.Lock()
	c.leave(s)
}

// enoughSteps is how far a call looks for what may lie behind a ring full of bytes. A peer that
// sends on and on does not hold it up.
const enoughSteps = 32

var inThePast = time.Unix(1, 0)

// leave ends what await began, and has the other side drive if it waits. The caller holds mu.
func (c *Conn) leave(s *side) {
	if c.driver != s {
		return
	}
	c.driver = nil
	c.rd.rouse()
	c.wr.rouse()
}

// park waits while the other side drives.
func (c *Conn) park(s *side, deadline time.Time) {
	s.parked = true
	if s.wake == nil {
		s.wake = make(chan struct{}, 1)
	}
	var expired <-chan time.Time
	if !deadline.IsZero() {
		if s.timer == nil {
			s.timer = time.NewTimer(time.Until(deadline))
		} else {
			s.timer.Reset(time.Until(deadline))
		}
		expired = s.timer.C
	}
	c.mu.Unlock()
	select {
	case <-s.wake:
	case <-expired:
	}
	if expired != nil {
		s.timer.Stop()
	}
	c.mu.Lock()
	s.parked = false
}

// rouse wakes s if it is parked. The caller holds mu.
func (s *side) rouse() {
	if !s.parked {
		return
	}
	s.parked = false
	select {
	case s.wake <- struct{}{}:
	default: // it has been woken already
	}
}

// interrupts reports whether the queue pair must be interrupted for s to look at its condition
// again, and wakes it where that is not needed. The caller holds mu.
func (c *Conn) interrupts(s *side) bool {
	s.rouse()
	return c.driver == s || s.draining.Load()
}

// drive waits for the queue pair and acts on what has arrived. Only the driver may call it.
func (c *Conn) drive(deadline time.Time) {
	err := c.qp.Wait(deadline)
	switch {
	case err == nil:
		c.poll()
	case fatal(err):
		c.ended(err)
	}
}

// ended takes note that the queue pair has ended with err, and that nothing is left to poll.
func (c *Conn) ended(err error) {
	c.mu.Lock()
	if c.ring.fault != nil {
		err = c.ring.fault
	}
	c.fail(err)
	c.mu.Unlock()
}

// fail ends the stream with err, unless it has ended already. The caller holds mu.
func (c *Conn) fail(err error) {
	if c.err == nil {
		c.err = err
	}
	c.rd.rouse()
	c.wr.rouse()
}

type completions [32]transport.Completion

var completionPool = sync.Pool{New: func() any { return new(completions) }}

// poll acts on all completions that are there. Only the driver may call it.
func (c *Conn) poll() {
	wc := completionPool.Get().(*completions)
	var o outcome
	for more := true; more; {
		n := c.qp.Poll(wc[:])
		if n == 0 {
			break // bytes were placed
		}
		o = c.take(wc[:n])
		more = n == len(wc) && o.err == nil && !o.lost
	}
	completionPool.Put(wc)
	if o.segment > 0 {
		c.qp.SetMaxSegment(o.segment)
	}
	switch {
	case o.err != nil:
		c.reject()
	case o.disconnected:
		// Both directions are at their end. The peer need not wait for our Close to be done.
		c.closeLast()
	case o.lost:
		c.ended(c.qp.Err())
	case o.small && c.slots.grow(c.qp):
		c.mu.Lock()
		c.in.window = c.slots.window
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
		c.qp.Abort()
	}
}

// closeLast closes the queue pair behind the peer's last word.
func (c *Conn) closeLast() {
	if t, ok := transport.As[transport.LastCloser](c.qp); ok {
		t.CloseLast()
	} else {
		c.qp.Close()
	}
}

// An outcome says what is to be done after completions were acted on.
type outcome struct {
	err          error // what the peer did wrong
	lost         bool  // the queue pair has ended
	disconnected bool  // the peer has closed
	due          bool  // the peer is to be told of space or credits
	small        bool  // many messages are under way, so they are small
	segment      int   // size of the largest FPDU from now on, if it is another one
}

// take acts on completions.
func (c *Conn) take(wc []transport.Completion) (o outcome) {
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
		if o.lost = w.Status == transport.StatusFlushed; o.lost || c.peerDisconnected || c.released {
			break
		}
		var m word
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
	o.disconnected = c.peerDisconnected
	if c.out.wordless && c.out.pace.news {
		c.out.pace.news, o.segment = false, c.out.pace.piece
	}
	if !c.extended && !c.immediate && !c.in.asked && c.in.mayKeep() {
		c.in.asked = true
		w := weak.Make(c)
		time.AfterFunc(keepTime, func() {
			if c := w.Value(); c != nil {
				c.seeWhetherKept()
			}
		})
	}
	o.small = c.in.creditsDue(2)
	o.due = c.grantDue(2) || c.confirmDue()
	c.mu.Unlock()
	for i := 0; done > 0; i++ {
		if isReceive(&wc[i]) {
			done--
			// It fails only when the queue pair has ended, which the next completions tell.
			c.slots.used(c.qp, wc[i].ID)
		}
	}
	return o
}

// keepTime is how long a plain peer is silent that is one of ours and waits for credits although it
// has some left. An rsocket uses all that it has; it may have closed by then, and must not be told
// of credits before all that it has sent is here.
const keepTime = 50 * time.Millisecond

// seeWhetherKept gives credits to a peer that has not used those which one of ours leaves unused.
func (c *Conn) seeWhetherKept() {
	c.mu.Lock()
	c.in.asked = false
	kept := c.in.mayKeep()
	c.in.keeps = kept
	c.mu.Unlock()
	if kept {
		c.give()
	}
}

func isReceive(w *transport.Completion) bool {
	return w.Opcode == transport.OpRecv || w.Opcode == transport.OpRecvImmediate
}

// received returns the word that came with a receive. The caller holds mu.
func (c *Conn) received(w *transport.Completion) (word, error) {
	switch {
	case w.Status != transport.StatusSuccess && w.Status != transport.StatusLocalLength:
		return 0, &protocolError{"message failed: " + w.Status.String()}
	case w.Status != transport.StatusSuccess:
		return 0, &protocolError{"message is not one word of 4 bytes"}
	case c.immediate != (w.Opcode == transport.OpRecvImmediate):
		return 0, &protocolError{"word comes in the wrong kind of message"}
	case c.immediate:
		return word(w.Immediate), nil
	case w.Bytes != wordLen:
		return 0, &protocolError{"message is not one word of 4 bytes"}
	}
	mem, _ := c.slots.slot(w.ID)
	return word(c.order.uint32(mem)), nil
}

// message acts on a word from the peer. It returns what is wrong with it. The caller holds mu.
func (c *Conn) message(w word) error {
	switch w.op() {
	case opData:
		if err := c.in.message(); err != nil {
			return err
		}
		if c.peerFinished {
			return errDataAfterEnd
		}
		if c.ring.wordless {
			if c.out.wordless {
				return &protocolError{"word about data that needs none"}
			}
			return nil // the peer does not know that
		}
		if err := c.ring.announce(uint64(w.value())); err != nil {
			return err
		}
		c.rd.rouse()
	case opIomap:
		return c.iomap(w.value())
	case opLimit:
		if err := c.out.update(uint16(w.value())); err != nil {
			return err
		}
		c.wr.rouse()
	case opCtrl:
		switch w.value() {
		case ctrlDisconnect:
			c.peerFinished, c.peerDisconnected = true, true
			c.peerGone.Store(true)
			c.rd.rouse()
			c.wr.rouse()
		case ctrlUnread:
			c.peerLeftUnread = true
		case ctrlShutdown:
			c.peerFinished = true
			c.rd.rouse()
		}
	default:
		return &protocolError{"reserved operation"}
	}
	return nil
}
