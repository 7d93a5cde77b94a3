package rdmanet

import (
	"time"

	"github.com/rdmanet/iwarp/transport"
)

// await lets some time pass in which something may change for s, until deadline at the latest. The
// caller holds mu, which is released meanwhile, and must check its condition again.
//
// The first to wait becomes the driver, and stays so until stopDriving: it waits for the queue
// pair, and wakes the other side.
func (c *Conn) await(s *side, deadline time.Time) {
	who := c.role(s)
	if c.driver != nobody && c.driver != who {
		c.park(s, deadline)
		return
	}
	c.driver = who
	c.mu.Unlock()
	c.drive(deadline)
	c.mu.Lock()
}

// looking is the side of calls that only look.
var looking side

// look acts on what has arrived, in up to that many steps, unless another call than that of s does
// so anyway. The caller holds mu, which is released meanwhile.
func (c *Conn) look(s *side, steps int) {
	// Of two that wait for the queue pair at a time, one could take the interrupt of the next driver.
	who := c.role(s)
	if c.driver != nobody && (c.driver != who || who == looker) {
		return
	}
	c.driver = who
	c.mu.Unlock()
	if l, ok := transport.As[transport.Looker](c.qp); ok {
		for steps > 0 && l.Look() {
			steps--
		}
	}
	c.drive(inThePast)
	c.mu.Lock()
	c.stopDriving(s)
}

// enoughSteps is how far a call looks for what may come after a ring full of bytes. A peer that
// keeps sending does not hold it up.
const enoughSteps = 32

var inThePast = time.Unix(1, 0)

// stopDriving ends what await began, and has the other side drive if it waits. The caller holds mu.
func (c *Conn) stopDriving(s *side) {
	if c.driver != c.role(s) {
		return
	}
	c.driver = nobody
	if c.placer != nil && s == &c.rd {
		c.placer.reading.Store(nil)
	}
	c.rd.rouse()
	c.wr.rouse()
}

// park waits while the other side drives.
func (c *Conn) park(s *side, deadline time.Time) {
	s.parked = true
	if s.parking == nil {
		s.parking = &parking{wake: make(chan struct{}, 1)}
	}
	p := s.parking
	var expired <-chan time.Time
	if !deadline.IsZero() {
		if p.timer == nil {
			p.timer = time.NewTimer(time.Until(deadline))
		} else {
			p.timer.Reset(time.Until(deadline))
		}
		expired = p.timer.C
	}
	c.mu.Unlock()
	select {
	case <-p.wake:
	case <-expired:
	}
	if expired != nil {
		p.timer.Stop()
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
	case s.parking.wake <- struct{}{}:
	default: // it has been woken already
	}
}

// interrupts reports whether the queue pair must be interrupted for s to check its condition again;
// where that is not needed, it wakes s. The caller holds mu.
func (c *Conn) interrupts(s *side) bool {
	s.rouse()
	return c.driver == c.role(s) || s.draining.Load()
}

// drive waits for the queue pair and acts on what has arrived. Only the driver may call it.
func (c *Conn) drive(deadline time.Time) { c.driven(c.qp.Wait(deadline)) }

// driven acts on what has arrived, or on why nothing has.
func (c *Conn) driven(err error) {
	switch {
	case err == nil:
		if c.quick == nil || c.quick.HasCompletions() {
			c.poll()
		}
	case fatal(err):
		c.ended(err)
	}
}

// ended records that the queue pair has ended with err, and that nothing is left to poll.
func (c *Conn) ended(err error) {
	c.mu.Lock()
	if a := c.after; a != nil && a.fault != nil {
		err = a.fault
	}
	c.fail(err)
	c.mu.Unlock()
}

// fail ends the stream with err, unless it has ended already. The caller holds mu.
func (c *Conn) fail(err error) {
	if c.err() == nil {
		c.aftermath().err = err
		c.showState()
	}
	c.rd.rouse()
	c.wr.rouse()
}
