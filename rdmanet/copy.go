package rdmanet

import (
	"io"
	"net"
	"time"

	"github.com/rdmanet/iwarp/rdmanet/internal/flow"
)

var (
	_ io.ReaderFrom = (*Conn)(nil)
	_ io.WriterTo   = (*Conn)(nil)
)

const (
	// bulkBytes is how much is moved at a time where much comes: each call of the system below wakes
	// somebody up.
	bulkBytes = 256 << 10
	// muchBytes is what has to be there for that.
	muchBytes = 16 << 10
	// moreTime is how long a call looks for more before it moves what it has.
	moreTime = 5 * time.Microsecond
	// mostMoreTime is how long it looks while there is always a little more.
	mostMoreTime = 20 * moreTime
	// bulkTime is how long a connection from which nothing more comes keeps the memory for it.
	bulkTime = 10 * time.Millisecond
)

// WriteTo writes what it reads to w, until io.EOF. While w is at work the connection is free for
// other calls, even by w itself: bytes are taken off the connection before w gets them. So those
// that w does not take, as its error or n says, are lost to later calls of Read, as with io.Copy
// from a net.TCPConn.
func (c *Conn) WriteTo(w io.Writer) (n int64, err error) {
	for much := false; ; {
		var b *flow.Block
		b, much, err = c.take(much)
		if err == io.EOF {
			return n, nil
		} else if err != nil {
			return n, c.opError("writeto", err)
		}
		k, err := w.Write(b.Bytes())
		size := len(b.Bytes())
		flow.PutBlock(b)
		if k < 0 || k > size {
			k, err = 0, io.ErrShortWrite
		}
		n += int64(k)
		if err == nil && k < size {
			err = io.ErrShortWrite
		}
		if err != nil {
			return n, c.opError("writeto", err)
		}
	}
}

// take waits for bytes and takes some off the ring, in a block that is the caller's. It reports
// whether there was much, which is what much is of the call before.
func (c *Conn) take(much bool) (*flow.Block, bool, error) {
	if !c.calls.begin() {
		return nil, false, net.ErrClosed
	}
	defer c.calls.end()
	c.rd.lock.Lock()
	defer c.rd.lock.Unlock()
	if much {
		if b := c.takeBulk(); b != nil {
			return b, len(b.Bytes()) >= muchBytes, nil
		}
	}
	c.mu.Lock()
	if err := c.awaitData(nil, false); err != nil {
		c.consumed(0)
		return nil, false, err
	}
	much = c.ring.Available() >= muchBytes
	b := c.ring.TakeBlock()
	if b == nil {
		p := c.ring.Front()
		b = flow.GetBlock(len(p))
		c.mu.Unlock()
		n := b.Fill(p)
		c.mu.Lock()
		c.ring.Drop(n)
	}
	c.consumed(len(b.Bytes()))
	return b, much, nil
}

// takeBulk takes as much off the ring as has come, after a wait for something that is short. It
// returns nil if there is nothing, be it for an error. The caller holds the side's lock.
func (c *Conn) takeBulk() *flow.Block {
	b := flow.GetBlock(bulkBytes)
	if deadline, ok := c.mayWait(b.Buf); ok {
		if soon := time.Now().Add(bulkTime); deadline.IsZero() || soon.Before(deadline) {
			deadline = soon
		}
		c.driven(c.qp.Wait(deadline))
	}
	c.mu.Lock()
	c.lookForMore()
	if c.ring.Available() == 0 {
		b.SetLen(c.ring.Detach())
		c.consumed(0)
	} else {
		c.mu.Unlock()
		n, _ := c.read(b.Buf) // which an error keeps for the next call
		b.SetLen(n)
	}
	if n := len(b.Bytes()); n < muchBytes { // its writer may take long, and keeps the memory
		defer flow.PutBlock(b)
		if n == 0 {
			return nil
		}
		few := flow.GetBlock(n)
		few.Fill(b.Bytes())
		return few
	}
	return b
}

// lookForMore looks for more of what comes much at a time. The caller holds the side's lock and mu,
// which is released meanwhile.
func (c *Conn) lookForMore() {
	had := c.ring.Available()
	if had < muchBytes {
		return
	}
	begun := time.Now()
	for last := begun; had < bulkBytes/2; {
		if c.driver != nobody && c.driver != reader || c.closed || c.readClosed || c.rd.deadline.Passed() {
			return
		}
		c.look(&c.rd, 1)
		now := time.Now()
		if now.Sub(begun) >= mostMoreTime {
			return
		}
		if have := c.ring.Available(); have > had {
			had, last = have, now
		} else if now.Sub(last) >= moreTime {
			return
		}
	}
}

// ReadFrom writes what it reads from r, until io.EOF. A *net.Buffers is written as WriteBuffers
// does.
func (c *Conn) ReadFrom(r io.Reader) (n int64, err error) {
	if v, ok := r.(*net.Buffers); ok {
		if n, err = c.WriteBuffers(v); err != nil {
			err = c.opError("readfrom", err)
		}
		return n, err
	}
	b := flow.GetBlock(maxChunk)
	defer func() { flow.PutBlock(b) }()
	for {
		k, rerr := r.Read(b.Buf)
		if k > 0 {
			// The write side is not held while r is read, which may take long.
			w, err := c.Write(b.Buf[:k])
			n += int64(w)
			if err != nil {
				return n, c.opError("readfrom", err)
			}
		}
		if rerr == io.EOF {
			return n, nil
		}
		if rerr != nil {
			return n, c.opError("readfrom", rerr)
		}
		size := len(b.Buf)
		if k == size {
			size = bulkBytes
		} else if k < bulkBytes/2 { // the next Read may take long, and keeps the memory
			size = maxChunk
		}
		if size != len(b.Buf) {
			flow.PutBlock(b)
			b = flow.GetBlock(size)
		}
	}
}
