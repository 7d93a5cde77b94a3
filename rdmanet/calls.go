package rdmanet

import (
	"math"
	"sync/atomic"
)

// A calls counts the calls under way, so that Close returns only after those that it ends. The
// user's code, such as the Writer of WriteTo, runs outside any call that is counted, as it may call
// Close itself.
type calls struct {
	n    atomic.Int64  // less than 0 once no call may begin
	left chan struct{} // told when the last one has ended after that; made by forbid if there are any
}

// begin counts a call, which must then call end. It returns false after forbid.
func (c *calls) begin() bool {
	if c.over() {
		return false
	}
	if c.n.Add(1) < 0 {
		c.end()
		return false
	}
	return true
}

func (c *calls) end() {
	if c.n.Add(-1) == math.MinInt64 {
		select {
		case c.left <- struct{}{}:
		default:
		}
	}
}

// endCall ends a call of Read or Write that has the lock of its side.
func (c *Conn) endCall(s *side) {
	s.lock.Unlock()
	c.calls.end()
}

// forbid lets no more calls begin. It is called once.
func (c *calls) forbid() {
	if c.n.CompareAndSwap(0, math.MinInt64) {
		return
	}
	c.left = make(chan struct{}, 1)
	c.n.Add(math.MinInt64)
}

// over reports whether forbid was called.
func (c *calls) over() bool { return c.n.Load() < 0 }

// await, called after forbid by the same goroutine, waits until no call is left.
func (c *calls) await() {
	if c.left == nil {
		return // a call that is counted now is one that begin refuses
	}
	for c.n.Load() != math.MinInt64 {
		<-c.left
	}
}
