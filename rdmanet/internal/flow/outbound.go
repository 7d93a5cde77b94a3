package flow

import (
	"sync"
	"time"

	"github.com/rdmanet/iwarp/rdmanet/internal/wire"
)

// Outbound is what the peer lets us send. It has two windows: the space of the peer's ring and the
// number of messages. It is not safe for concurrent use.
type Outbound struct {
	target [wire.TableEntries]wire.SGE // space that may be filled, strictly in turn
	pace   pace

	// Table is where the peer writes. With a transport that places by software it is there only while
	// something is in it, and filled marks the bytes of each entry that have arrived since the entry
	// was last taken over.
	Table  *Table
	filled [wire.TableEntries]uint16
	Placed bool
	order  wire.Order // of the entries

	cur  uint8 // the target to fill now
	next uint8 // the entry that the peer writes next

	limit, sent uint16 // messages that may be sent, and that were, in all; both wrap
	credits     uint16 // the first limit, for a plain rsocket also the number of its receives
	maps        uint16 // words about exposed memory since the last limit word
	reserve     uint16 // messages of limit that are not used, so that the peer has receives for other words
	Wordless    bool   // data is followed by no word, and takes no message
}

// A Table is what the peer writes about its space.
type Table = [wire.TableLen]byte

var tables = sync.Pool{New: func() any { return new(Table) }}

const allFilled = 1<<wire.SGELen - 1

// Start sets what the peer told when it connected.
func (o *Outbound) Start(peer *wire.ConnData, order wire.Order, extended, immediate bool) {
	o.limit, o.credits, o.order = peer.Credits, peer.Credits, order
	o.target[0], o.next = peer.Ring, 1
	if !extended && !immediate {
		// A plain rsocket has as many receives as it gives credits, and none for words that need no
		// credit. Unlike InfiniBand, iWARP cannot repeat a Send that finds no receive, so some credits
		// must stay unused.
		o.reserve = reserve(o.credits)
	}
	if extended && peer.Ext.WholeRing {
		second := peer.Ring
		second.Addr += uint64(second.Length)
		o.target[1], o.next = second, 0
	}
	o.Wordless = extended && peer.Ext.Wordless
}

// reserve is how many of a plain rsocket's credits stay unused.
func reserve(credits uint16) uint16 { return min(max(8, credits/8), credits/2) }

// SetPieces makes data go in pieces of up to most bytes, by the pace of the peer's reader.
func (o *Outbound) SetPieces(most int, now time.Time) { o.pace.start(most, now) }

// Piece returns the size in bytes of the largest piece at present; 0 means unbounded.
func (o *Outbound) Piece() int { return int(o.pace.piece) }

// NewSegment returns the size in bytes of the largest segment, where that bounds the pieces and
// has changed since the last call; otherwise 0.
func (o *Outbound) NewSegment() int {
	if !o.Wordless || !o.pace.news {
		return 0
	}
	o.pace.news = false
	return int(o.pace.piece)
}

// Ready reports whether data may be sent.
func (o *Outbound) Ready() bool {
	return (o.Wordless || o.limit-o.sent > o.reserve) && o.target[o.cur].Length != 0
}

// Space returns how many bytes may be sent as far as the peer's ring goes.
func (o *Outbound) Space() (n uint64) {
	for i := range o.target {
		n += uint64(o.target[i].Length)
	}
	return n
}

// Credits returns how many messages with data may be sent, or 0 where they take none.
func (o *Outbound) Credits() int {
	if o.Wordless {
		return 0
	}
	return max(int(o.limit-o.sent)-int(o.reserve), 0)
}

// Take takes space for up to n bytes, to be sent in one piece. The result has Length 0 if none may
// be sent.
func (o *Outbound) Take(n int) wire.SGE {
	if n <= 0 || !o.Ready() {
		return wire.SGE{}
	}
	t := &o.target[o.cur]
	space := *t
	if uint64(n) < uint64(space.Length) {
		space.Length = uint32(n)
	}
	space.Length = min(space.Length, wire.MaxValue)
	t.Addr += uint64(space.Length)
	t.Length -= space.Length
	o.pace.count(space.Length)
	if t.Length == 0 {
		o.cur = (o.cur + 1) % wire.TableEntries
	}
	if !o.Wordless {
		o.sent++
	}
	return space
}

// Fits reports whether n bytes can be taken in one piece, and some space remains after them.
func (o *Outbound) Fits(n int) bool {
	return o.Ready() && n > 0 && uint64(n) < uint64(o.target[o.cur].Length) && n <= wire.MaxValue
}

// GiveBack undoes the last Take, of n bytes that fitted and no word follows.
func (o *Outbound) GiveBack(n int) {
	t := &o.target[o.cur]
	t.Addr -= uint64(n)
	t.Length += uint32(n)
	o.pace.sent -= min(o.pace.sent, uint32(n)) // it may have begun anew meanwhile
}

// MayMap reports whether a word about exposed memory may be sent. It costs a credit; but a plain
// rsocket does not give that back, so there it takes its receive from the reserve.
func (o *Outbound) MayMap(extended bool) bool {
	if extended {
		return o.limit != o.sent
	}
	return o.reserve == 0 || o.maps < max(1, o.reserve/2)
}

// Mapped records that such a word is sent.
func (o *Outbound) Mapped(extended bool) {
	if extended {
		o.sent++
	} else {
		o.maps++
	}
}

// Place takes bytes that the peer has written off bytes into the table.
func (o *Outbound) Place(off uint64, p []byte) {
	if o.Table == nil {
		o.Table = tables.Get().(*Table)
	}
	for i, b := range p {
		at := off + uint64(i)
		o.Table[at] = b
		o.filled[at/wire.SGELen] |= 1 << (at % wire.SGELen)
	}
}

// Update acts on a limit word: it takes over the space that was written before it, and the limit.
// It returns what is wrong with them, if anything.
func (o *Outbound) Update(limit uint16) error {
	// A limit may move by as much as the peer has receives; more than half the range is a move
	// backwards.
	if step := limit - o.limit; step > max(o.credits, 1<<15-1) || uint32(o.limit-o.sent)+uint32(step) > 1<<16-1 {
		return wire.Violation("limit moves backwards")
	}
	o.limit, o.maps = limit, 0
	space := uint64(0)
	for o.target[o.next].Length == 0 && (!o.Placed || o.filled[o.next] == allFilled) {
		entry := o.Table[wire.SGELen*o.next:][:wire.SGELen]
		s := o.order.SGE(entry)
		if s.Length == 0 {
			break
		}
		if wire.Wraps(s.Addr, uint64(s.Length)) {
			return wire.Violation("space reaches beyond 64 bits of address")
		}
		o.target[o.next] = s
		space += uint64(s.Length)
		clear(entry)
		o.filled[o.next] = 0
		o.next = (o.next + 1) % wire.TableEntries
	}
	if o.Placed && o.Table != nil && o.filled == [wire.TableEntries]uint16{} {
		tables.Put(o.Table)
		o.Table = nil
	}
	if space > 0 {
		o.pace.told(space, time.Now())
	}
	return nil
}
