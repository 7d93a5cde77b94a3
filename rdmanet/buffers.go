package rdmanet

import (
	"net"
	"os"

	"github.com/rdmanet/iwarp/rdmanet/internal/flow"
)

// WriteBuffers writes the slices of v as one Write: no other comes between them, and small slices
// share messages. It removes what it has written from v, even when it fails, and counts and fails
// as Write does.
//
// [net.Buffers.WriteTo] does this only for connections of package net. With a Conn it calls Write
// for each slice, which takes longer and lets other Writes come in between. ReadFrom with a
// *net.Buffers writes them as one for a Conn and a net.TCPConn alike.
func (c *Conn) WriteBuffers(v *net.Buffers) (n int64, err error) {
	if !c.calls.begin() {
		return 0, c.opError("writev", net.ErrClosed)
	}
	defer c.calls.end()
	c.wr.lock.Lock()
	defer c.wr.lock.Unlock()
	n, err = c.writeBuffers(v)
	if err != nil {
		err = c.opError("writev", err)
	}
	return n, err
}

// writeBuffers does the work of WriteBuffers. The caller holds the side's lock.
func (c *Conn) writeBuffers(v *net.Buffers) (n int64, err error) {
	size := sizeUpTo(*v, maxChunk)
	if size == 0 {
		return 0, c.idle(&c.wr)
	}
	b := flow.GetBlock(size)
	defer flow.PutBlock(b)
	for {
		k, err := c.write(gather(b.Buf, *v), destination{})
		consume(v, k)
		n += int64(k)
		if err != nil || len(*v) == 0 {
			return n, err
		}
	}
}

// idle returns why a call of s that does nothing fails, if it does; the state of the stream is no
// reason for that.
func (c *Conn) idle(s *side) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return net.ErrClosed
	case s.deadline.Passed():
		return os.ErrDeadlineExceeded
	}
	return nil
}

// sizeUpTo returns the number of bytes in v, or most if there are more.
func sizeUpTo(v net.Buffers, most int) (n int) {
	for _, p := range v {
		if n += len(p); n >= most {
			return most
		}
	}
	return n
}

// gather returns the next bytes of v. It copies them to buf unless many lie in one piece.
func gather(buf []byte, v net.Buffers) []byte {
	n := 0
	for i, p := range v {
		if n == 0 && (i == len(v)-1 || len(p) >= maxChunk/2) {
			return p
		}
		if n += copy(buf[n:], p); n == len(buf) {
			break
		}
	}
	return buf[:n]
}

// consume removes the first n bytes from v, and empty slices at its front, as package net does.
func consume(v *net.Buffers, n int) {
	for len(*v) > 0 && n >= len((*v)[0]) {
		n -= len((*v)[0])
		(*v)[0] = nil
		*v = (*v)[1:]
	}
	if n > 0 {
		(*v)[0] = (*v)[0][n:]
	}
}
