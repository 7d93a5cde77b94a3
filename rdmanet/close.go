package rdmanet

import (
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"syscall"
	"time"

	"github.com/rdmanet/iwarp/rdmanet/internal/wire"
	"github.com/rdmanet/iwarp/transport"
)

// Close tells the peer that the connection is at its end and closes it. It does not wait for the
// peer; what was written still goes out. Calls under way return with net.ErrClosed before Close
// does; a second Close fails with it. After SetLinger(0) the connection is reset instead; after a
// positive value Close waits that long for the peer's host to have everything, and returns an error
// that matches os.ErrDeadlineExceeded if it has not.
//
// A process that exits right after Close should set that, as its exit may cut off what has not
// arrived yet. A process that exits without Close breaks the connection: the peer reads what has
// arrived and then io.ErrUnexpectedEOF, not io.EOF. A connection that becomes garbage is closed.
// Its peer reads everything and then io.EOF, even where something was unread, which resets a
// socket.
//
// Where Close leaves something unread that has arrived, the calls of a peer of this package fail
// with syscall.ECONNRESET once they have read everything.
func (c *Conn) Close() error { return c.close(true) }

// close does the work of Close. With look it looks for what is unread.
func (c *Conn) close(look bool) error {
	linger, ok := c.endCalls()
	if !ok {
		return c.opError("close", net.ErrClosed)
	}
	runtime.SetFinalizer(c, nil)
	var err error
	if linger == 0 {
		_ = c.qp.Abort()
	} else {
		if look {
			c.lookForUnread()
		}
		c.sendEnd(true)
		err = c.closeOrderly(time.Duration(linger) * time.Second)
	}
	c.release()
	if err != nil {
		return c.opError("close", err)
	}
	return nil
}

// endCalls marks the connection closed, and returns when no call is under way any more. It returns
// false if the connection is closed already.
func (c *Conn) endCalls() (linger int, ok bool) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return 0, false
	}
	c.closed = true
	c.calls.forbid()
	linger = int(c.linger)
	read, write := c.interrupts(&c.rd), c.interrupts(&c.wr)
	c.mu.Unlock()
	if read || write {
		c.qp.Interrupt()
	}
	c.calls.await()
	return linger, true
}

// lookForUnread finds out whether something has arrived that nobody has read.
func (c *Conn) lookForUnread() {
	c.mu.Lock()
	if c.ring.Available() == 0 && !c.own.disconnected() && !c.peer.disconnected() && c.err() == nil {
		c.look(&looking, enoughSteps)
	}
	c.mu.Unlock()
}

// finalize closes a connection that is garbage, as package net does. It must not wait. What arrives
// no longer reaches the connection, so it does not look for that.
func (c *Conn) finalize() {
	if c.linger > 0 {
		c.linger = -1
	}
	go c.close(false)
}

// closeOrderly closes the queue pair after what was sent, and waits for up to d until that has
// reached the peer's host or, where the transport cannot tell, has left this one. It returns why it
// has not.
func (c *Conn) closeOrderly(d time.Duration) (err error) {
	deadline := time.Now().Add(d)
	l, tells := transport.As[transport.CloseAwaiter](c.qp)
	if d > 0 && !tells {
		for {
			if err = c.qp.Drain(deadline); !errors.Is(err, transport.ErrInterrupted) {
				break
			}
		}
		if errors.Is(err, io.EOF) && c.peerEnded() {
			err = nil // it has what it wants
		}
	}
	if d > 0 && tells {
		l.WillAwaitClosed()
	}
	if t, ok := transport.As[transport.EndLeaver](c.qp); ok && !c.extended {
		t.LeaveEndToPeer()
	}
	// A peer of this package reads while it writes, and has space for everything that it was sent.
	if t, ok := transport.As[transport.RestLeaver](c.qp); ok && c.extended {
		t.LeaveRest()
	}
	// It fails only if the connection has already ended.
	_ = c.qp.Close()
	if d > 0 && tells {
		err = l.AwaitClosed(deadline)
	}
	if err == nil || errors.Is(err, net.ErrClosed) {
		return nil // the peer had closed before
	}
	return cause("close", err)
}

// peerEnded reports whether the peer has said its last word, with everything read. One that has
// finished writing closes without another word once it knows of our end.
func (c *Conn) peerEnded() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.peer.disconnected() && c.err() == nil {
		c.look(&looking, enoughSteps)
	}
	return c.peer.finished() && !c.peerLeftUnread
}

// CloseWrite tells the peer that nothing more will be written; its Read returns io.EOF after what
// was. Reading goes on. Once the connection is at its end in both directions, or broken, it fails
// with syscall.ENOTCONN.
func (c *Conn) CloseWrite() error {
	return c.shutdown(&c.wr, func() (end, both bool) {
		end = !c.own.finished()
		return end, false
	})
}

// CloseRead makes Read return io.EOF where it would wait. What has arrived by then can still be
// read. The peer is not told, unless writing has ended too. Once the connection is at its end in
// both directions, or broken, it fails with syscall.ENOTCONN.
func (c *Conn) CloseRead() error {
	return c.shutdown(&c.rd, func() (end, both bool) {
		c.readClosed = true
		return c.own.finished(), c.own.finished()
	})
}

// shutdown ends the direction of s. mark, which is called with mu held, records that, and returns
// whether the peer must be told that one direction, or both, have ended.
func (c *Conn) shutdown(s *side, mark func() (end, both bool)) error {
	if !c.calls.begin() {
		return c.opError("close", net.ErrClosed)
	}
	defer c.calls.end()
	c.mu.Lock()
	c.look(&looking, enoughSteps)
	if c.closed || c.bothEnded() {
		err := net.ErrClosed
		if !c.closed {
			err = os.NewSyscallError("shutdown", syscall.ENOTCONN)
		}
		c.mu.Unlock()
		return c.opError("close", err)
	}
	end, both := mark()
	c.mu.Unlock()
	if end {
		c.sendEnd(both)
	}
	c.mu.Lock()
	interrupt := c.interrupts(s) // of those that have found no end before it was there
	c.mu.Unlock()
	if interrupt {
		c.qp.Interrupt()
	}
	return nil
}

// bothEnded reports whether both directions have come to their end, in order or not. The caller
// holds mu.
func (c *Conn) bothEnded() bool {
	if c.peer.finished() {
		return c.own.finished() || c.refused || c.peerLeftUnread
	}
	return c.err() != nil
}

// sendEnd posts the word that ends what is written, after all data, or the one that ends the
// connection. It does nothing if that was done before.
func (c *Conn) sendEnd(both bool) {
	c.sendMu.Lock()
	c.mu.Lock()
	var b *batch
	to, tell := c.own.finish(c.peer, !c.readClosed, both)
	c.own = to
	c.showState()
	if tell && c.err() == nil && c.sendErr() == nil {
		b = batches.Get().(*batch)
		if c.closed && c.extended && c.ring.Available() > 0 {
			c.addWord(b, wire.MakeWord(wire.OpCtrl, wire.CtrlUnread), 0)
		}
		flags := transport.Flags(0)
		if c.closed && c.linger > 0 && !c.stage.bare() {
			flags = transport.WillDrain // so that it is known that the peer has it, whatever comes then
		}
		c.addWord(b, to.word(), flags)
	}
	c.mu.Unlock()
	if b == nil {
		c.sendMu.Unlock()
	} else {
		_ = c.postAndRelease(b)
	}
	if c.giveWanted.Load() {
		c.give()
	}
}
