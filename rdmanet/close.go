package rdmanet

import (
	"errors"
	"net"
	"os"
	"runtime"
	"syscall"
	"time"

	"github.com/rdmanet/iwarp/transport"
)

// Close tells the peer that the connection is at its end and closes it. It does not wait for the peer; what was written still
// goes out. Calls under way return with net.ErrClosed before Close does; a second Close fails with it. After SetLinger(0) the
// connection is reset instead; after a positive value Close waits that long for the peer's host to have everything, and returns
// an error that matches os.ErrDeadlineExceeded if it has not.
//
// A process that is to exit right behind Close should set that: its end cuts off what has not arrived yet. A process
// that exits without Close breaks the connection: the peer reads what has arrived and then io.ErrUnexpectedEOF, not io.EOF.
// A connection that is garbage is closed.
func (c *Conn) Close() error {
	linger, ok := c.endCalls()
	if !ok {
		return c.opError("close", net.ErrClosed)
	}
	runtime.SetFinalizer(c, nil)
	var err error
	if linger == 0 {
		c.qp.Abort()
	} else {
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
	linger = c.linger
	read, write := c.interrupts(&c.rd), c.interrupts(&c.wr)
	c.mu.Unlock()
	if read || write {
		c.qp.Interrupt()
	}
	c.calls.await()
	return linger, true
}

// finalize closes a connection that is garbage, as package net does. It must not wait.
func (c *Conn) finalize() {
	if c.linger > 0 {
		c.linger = -1
	}
	go c.Close()
}

// A lingerer is a queue pair that knows when the peer's host has acknowledged what was sent before Close.
type lingerer interface {
	WillAwaitClosed()
	AwaitClosed(deadline time.Time) error
}

// An endLeaver is a queue pair that can leave it to the peer to end the connection, as rsockets need.
type endLeaver interface {
	LeaveEndToPeer()
}

// closeOrderly closes the queue pair behind what was sent, and waits for up to d until the peer's host has that, or where the transport
// cannot tell, until it has left this host. It returns why that did not come to pass.
func (c *Conn) closeOrderly(d time.Duration) (err error) {
	deadline := time.Now().Add(d)
	l, tells := transport.As[lingerer](c.qp)
	if d > 0 && !tells {
		for {
			if err = c.qp.Drain(deadline); !errors.Is(err, transport.ErrInterrupted) {
				break
			}
		}
	}
	if d > 0 && tells {
		l.WillAwaitClosed()
	}
	if t, ok := transport.As[endLeaver](c.qp); ok && !c.extended {
		t.LeaveEndToPeer()
	}
	// It is an error only if the connection is at its end already.
	c.qp.Close()
	if d > 0 && tells {
		err = l.AwaitClosed(deadline)
	}
	if err == nil || errors.Is(err, net.ErrClosed) {
		return nil // the peer had closed before
	}
	return cause("close", err)
}

// CloseWrite tells the peer that nothing more will be written; its Read returns io.EOF behind what was. Reading goes on.
func (c *Conn) CloseWrite() error {
	if !c.calls.begin() {
		return c.opError("close", net.ErrClosed)
	}
	defer c.calls.end()
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
	if !c.calls.begin() {
		return c.opError("close", net.ErrClosed)
	}
	defer c.calls.end()
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
