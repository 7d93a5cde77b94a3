package rdmanet

import (
	"net"
	"os"
	"syscall"
	"time"

	"github.com/rdmanet/iwarp/transport"
)

// Close tells the peer that the connection is at its end and closes it. It does not wait for the peer; what was written still
// goes out. Calls under way return with net.ErrClosed, as does a second Close. After SetLinger(0) the connection is
// reset instead; after a positive value Close waits that long for the peer's host to have everything.
//
// A process that is to exit right behind Close should set that: its end cuts off what has not arrived yet. A process
// that exits without Close breaks the connection: the peer reads what has arrived and then io.ErrUnexpectedEOF, not io.EOF.
func (c *Conn) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return c.opError("close", net.ErrClosed)
	}
	c.closed = true
	linger := c.linger
	c.rd.rouse()
	c.wr.rouse()
	c.mu.Unlock()
	if linger == 0 {
		c.qp.Abort()
	} else {
		c.sendEnd(true)
		c.closeOrderly(time.Duration(linger) * time.Second)
	}
	c.closing.Store(true)
	c.release()
	return nil
}

// A lingerer is a queue pair that knows when the peer's host has acknowledged what was sent before Close.
type lingerer interface {
	AwaitClosed(deadline time.Time) error
}

// An endLeaver is a queue pair that can leave it to the peer to end the connection, as rsockets need.
type endLeaver interface {
	LeaveEndToPeer()
}

// closeOrderly closes the queue pair behind what was sent, and waits for up to d until the peer's host has that, or where the transport
// cannot tell, until it has left this host.
func (c *Conn) closeOrderly(d time.Duration) {
	deadline := time.Now().Add(d)
	l, tells := transport.As[lingerer](c.qp)
	if d > 0 && !tells {
		c.qp.Interrupt()
		for !passed(deadline) {
			if err := c.qp.Drain(deadline); err == nil || fatal(err) {
				break
			}
		}
	}
	if t, ok := transport.As[endLeaver](c.qp); ok && !c.extended {
		t.LeaveEndToPeer()
	}
	// It is an error only if the connection is at its end already.
	c.qp.Close()
	if d > 0 && tells {
		l.AwaitClosed(deadline)
	}
}

// CloseWrite tells the peer that nothing more will be written; its Read returns io.EOF behind what was. Reading goes on.
func (c *Conn) CloseWrite() error {
	c.mu.Lock()
	switch {
	case c.closed:
		c.mu.Unlock()
		return c.opError("close", net.ErrClosed)
	case c.writeClosed:
		c.mu.Unlock()
		return nil
	case c.err != nil && !c.peerFinished:
		c.mu.Unlock()
		return c.opError("close", os.NewSyscallError("shutdown", syscall.ENOTCONN))
	}
	interrupt := c.interrupts(&c.wr)
	c.mu.Unlock()
	c.sendEnd(false)
	if interrupt {
		c.qp.Interrupt()
	}
	return nil
}

// CloseRead makes this and later calls of Read return io.EOF. The peer is not told, unless writing is at its end too.
func (c *Conn) CloseRead() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return c.opError("close", net.ErrClosed)
	}
	c.readClosed = true
	both := c.writeClosed
	interrupt := c.interrupts(&c.rd)
	c.mu.Unlock()
	if both {
		c.sendEnd(true)
	}
	if interrupt {
		c.qp.Interrupt()
	}
	return nil
}

// sendEnd posts the word that ends what is written, behind all data, or the one that ends the connection. It does nothing if
// that was done before.
func (c *Conn) sendEnd(both bool) {
	c.sendMu.Lock()
	c.mu.Lock()
	value := uint32(ctrlShutdown)
	if both || c.readClosed || c.peerFinished {
		value = ctrlDisconnect
	}
	if both && c.peerFinished && c.writeClosed {
		c.disconnected = true // both directions are at their end, and the peer knows
	}
	needed := !c.disconnected && (!c.writeClosed || both) && !c.peerDisconnected && c.err == nil && c.sendErr == nil
	c.writeClosed = true
	c.disconnected = c.disconnected || value == ctrlDisconnect
	var b *batch
	if needed {
		b = batches.Get().(*batch)
		c.addWord(b, makeWord(opCtrl, value), 0)
	}
	c.mu.Unlock()
	if b == nil {
		c.sendMu.Unlock()
		return
	}
	c.postAndRelease(b)
	if c.giveWanted.Load() {
		c.give()
	}
}
