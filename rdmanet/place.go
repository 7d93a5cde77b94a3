package rdmanet

import (
	"errors"
	"sync/atomic"
	"weak"

	"github.com/rdmanet/iwarp/rdmanet/internal/flow"
	"github.com/rdmanet/iwarp/rdmanet/internal/wire"
	"github.com/rdmanet/iwarp/transport"
)

// A placer is the Placer of a Conn's ring, and of its table right after it. The queue pair, which
// work in the background may keep alive longer than the Conn's users do, must not keep the Conn
// alive: one that nobody has closed is closed once it is garbage.
type placer struct {
	c       weak.Pointer[Conn]
	reading atomic.Pointer[Conn] // the same while a Read waits, which has it alive: that is quicker
}

var _ transport.Targeter = (*placer)(nil)

func (p *placer) conn() *Conn {
	if c := p.reading.Load(); c != nil {
		return c
	}
	return p.c.Value()
}

var errAcross = errors.New("write reaches from the ring into the table")

// Place takes a piece of the stream, or of the table, and drops it if the Conn is garbage.
func (p *placer) Place(off uint64, b []byte) (news bool, err error) {
	c := p.conn()
	if c == nil {
		return false, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock() // b may be memory that can no longer be read, which the transport survives
	if off >= c.ring.Size {
		c.placeTable(off-c.ring.Size, b)
	} else if err = c.mayPlace(off, len(b)); err == nil {
		// From here, as the frames from the socket down to the blocks are to fit on a small stack.
		if err = c.ring.Place(off, b); err == nil {
			news = c.placed(len(b))
		} else {
			c.faulted(err)
		}
	}
	return news, err
}

// Target returns where in the buffer of the waiting Read the n bytes from off on belong. Only that
// Read itself may have asked for them: its buffer is its own again once it returns.
func (p *placer) Target(off uint64, n int) []byte {
	c := p.conn()
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.driver != reader {
		return nil
	}
	return c.ring.Target(off, n)
}

// mayPlace returns what is wrong with a piece of the stream, other than with its place. The caller
// holds mu.
func (c *Conn) mayPlace(off uint64, n int) error {
	if off+uint64(n) > c.ring.Size {
		return errAcross
	}
	if c.ring.Wordless && c.peer.finished() && n > 0 {
		c.faulted(wire.ErrDataAfterEnd)
		return wire.ErrDataAfterEnd
	}
	return nil
}

// faulted records what was wrong with what the peer has placed. The caller holds mu.
//
//go:noinline
func (c *Conn) faulted(err error) { c.aftermath().fault = err }

// placed records n bytes of the stream. It reports whether they are news for a Read that waits for
// the queue pair, as no word follows. The caller holds mu.
func (c *Conn) placed(n int) (news bool) {
	if !c.ring.Wordless {
		return false
	}
	c.stats.Arrived(n)
	c.rd.rouse()
	return c.driver == reader
}

// placeTable takes what the peer writes into the table. The caller holds mu.
func (c *Conn) placeTable(off uint64, b []byte) {
	if off < wire.TableLen {
		n := min(wire.TableLen-off, uint64(len(b)))
		c.out.Place(off, b[:n])
		off, b = off+n, b[n:]
	}
	if len(b) == 0 {
		return
	}
	if c.maps == nil {
		c.maps = &flow.Mappings{Table: make([]byte, wire.IomapTableLen), Placed: true}
	}
	c.maps.Place(off-wire.TableLen, b)
}
