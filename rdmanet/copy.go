package rdmanet

import (
	"io"
	"net"

	"github.com/rdmanet/iwarp/rdmanet/internal/flow"
)

var (
	_ io.ReaderFrom = (*Conn)(nil)
	_ io.WriterTo   = (*Conn)(nil)
)

// WriteTo writes what it reads to w, until io.EOF. While w is at work the connection is free for
// other calls, even by w itself: bytes are taken off the connection before w gets them. So those
// that w does not take, as its error or n says, are lost to later calls of Read, as with io.Copy
// from a net.TCPConn.
func (c *Conn) WriteTo(w io.Writer) (n int64, err error) {
	for {
		b, err := c.takeBlock()
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

// takeBlock waits for bytes and takes some off the ring, in a block that is the caller's.
func (c *Conn) takeBlock() (*flow.Block, error) {
	if !c.calls.begin() {
		return nil, net.ErrClosed
	}
	defer c.calls.end()
	c.rd.lock.Lock()
	defer c.rd.lock.Unlock()
	c.mu.Lock()
	if err := c.awaitData(nil, false); err != nil {
		c.consumed(0)
		return nil, err
	}
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
	return b, nil
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
	defer flow.PutBlock(b)
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
	}
}
