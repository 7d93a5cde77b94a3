package rdmanet

import "io"

var (
	_ io.ReaderFrom = (*Conn)(nil)
	_ io.WriterTo   = (*Conn)(nil)
)

// WriteTo writes what is read to w, until io.EOF, without copying it to a buffer in between.
func (c *Conn) WriteTo(w io.Writer) (n int64, err error) {
	c.rd.lock.Lock()
	defer c.doneReading()
	for {
		c.mu.Lock()
		err := c.awaitData(nil, false)
		p := c.ring.front()
		c.consumed(0)
		if err == io.EOF {
			return n, nil
		} else if err != nil {
			return n, c.opError("writeto", err)
		}
		k, err := w.Write(p)
		if k < 0 || k > len(p) {
			k, err = 0, io.ErrShortWrite
		}
		if k > 0 {
			c.mu.Lock()
			c.ring.drop(k)
			c.consumed(k)
			n += int64(k)
		}
		if err == nil && k < len(p) {
			err = io.ErrShortWrite
		}
		if err != nil {
			return n, c.opError("writeto", err)
		}
	}
}

// ReadFrom writes what is read from r, until io.EOF.
func (c *Conn) ReadFrom(r io.Reader) (n int64, err error) {
	b := largeBlocks.Get().(*block)
	defer putBlock(b)
	for {
		k, rerr := r.Read(b.buf)
		if k > 0 {
			// The write side is not held while r is read, which may take long.
			w, err := c.Write(b.buf[:k])
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
