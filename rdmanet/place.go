package rdmanet

import (
	"weak"

	"github.com/rdmanet/iwarp/rdmanet/internal/flow"
	"github.com/rdmanet/iwarp/rdmanet/internal/wire"
)

// ringPlacer is the Placer of a Conn's ring. The queue pair, which work in the background may keep
// alive longer than the Conn's users do, must not keep the Conn alive: one that nobody has closed
// is closed once it is garbage.
type ringPlacer struct{ c weak.Pointer[Conn] }

// Place takes a piece of the stream, and drops it if the Conn is garbage. If no word follows, the
// piece itself is news for a Read that waits for the queue pair.
func (p ringPlacer) Place(off uint64, b []byte) (news bool, err error) {
	c := p.c.Value()
	if c == nil {
		return false, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ring.Wordless && c.peer.finished() && len(b) > 0 {
		c.ring.Fault = wire.ErrDataAfterEnd
		return false, c.ring.Fault
	}
	if err := c.ring.Place(off, b); err != nil || !c.ring.Wordless {
		return false, err
	}
	c.rd.rouse()
	return c.driver == &c.rd, nil
}

// tablePlacer is the Placer of a Conn's table, as ringPlacer is of its ring.
type tablePlacer struct{ c weak.Pointer[Conn] }

// Place takes what the peer writes into the table.
func (t tablePlacer) Place(off uint64, p []byte) (news bool, err error) {
	c := t.c.Value()
	if c == nil {
		return false, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if off < wire.TableLen {
		n := min(wire.TableLen-off, uint64(len(p)))
		c.out.Place(off, p[:n])
		off, p = off+n, p[n:]
	}
	if len(p) == 0 {
		return false, nil
	}
	if c.maps == nil {
		c.maps = &flow.Mappings{Table: make([]byte, wire.IomapTableLen), Placed: true}
	}
	c.maps.Place(off-wire.TableLen, p)
	return false, nil
}
