package rdmanet

import (
	"math"

	"github.com/rdmanet/iwarp/transport"
)

// Iomap is what rsockets calls the placement of bytes in memory of the peer's choice, beside the
// stream. Who exposes memory writes an entry into the table of the peer, which lies behind that for
// the stream, and sends the entry's index in a word. The peer then writes there with the key of the
// entry, and no word at all.
//
// Between two ends of this package a word revokes an entry, and another confirms that: whoever has
// sent the confirmation writes no more to the memory, and what was written before it has arrived
// ahead of it. Only then is the entry used again.
const (
	iomapEntries  = 16 // of our table
	iomapEntryLen = 24
	iomapTableLen = iomapEntries * iomapEntryLen

	iomapIndex     = 1<<16 - 1 // bits of the word's value
	iomapConfirmed = 1 << 28   // bits of the word's value that are not there in rsockets
	iomapRevoked   = 1 << 27
)

// An iomapEntry is memory that can be written by its offsets from offset on.
type iomapEntry struct {
	offset uint64
	sge
}

func (o byteOrder) iomapEntry(b []byte) iomapEntry {
	return iomapEntry{o.uint64(b), o.sge(b[8:])}
}

func (o byteOrder) putIomapEntry(b []byte, e iomapEntry) {
	o.putUint64(b, e.offset)
	o.putSGE(b[8:], e.sge)
}

// has reports whether the byte at off is in e.
func (e *iomapEntry) has(off uint64) bool { return off >= e.offset && off-e.offset < uint64(e.length) }

// scale is how rsockets tells the number of entries in one byte: numbers above 128 by their upper
// bits.
func scale(n int) byte {
	if n <= 1<<7 {
		return byte(n)
	}
	return 1<<7 | byte(min(n, math.MaxInt16)>>8)
}

func unscale(b byte) int {
	if b <= 1<<7 {
		return int(b)
	}
	return int(b&^(1<<7)) << 8
}

// Mappings is what the peer has exposed. It is guarded by Conn.mu.
type mappings struct {
	table   []byte // written by the peer
	placed  bool   // with a transport that places by software, filled marks the bytes that have arrived
	filled  [iomapEntries]uint32
	known   [iomapEntries]bool       // was whole once
	entries [iomapEntries]iomapEntry // taken over from table
}

const iomapFilled = 1<<iomapEntryLen - 1

// place takes bytes that the peer has written off bytes into the table.
func (m *mappings) place(off uint64, p []byte) {
	copy(m.table[off:], p)
	for i := range p {
		at := off + uint64(i)
		m.filled[at/iomapEntryLen] |= 1 << (at % iomapEntryLen)
	}
}

// update takes over the entry at index. It returns what is wrong with it, if anything.
func (m *mappings) update(index uint32, order byteOrder) error {
	if m == nil || m.placed && m.filled[index] != iomapFilled && !m.known[index] {
		return &protocolError{"word for an entry that was not written"}
	}
	if m.placed && m.filled[index] != iomapFilled {
		return nil // an rsocket has written the entry twice: the first word was for both, or the second one is to come
	}
	m.filled[index], m.known[index] = 0, true
	e := order.iomapEntry(m.table[index*iomapEntryLen:])
	if wraps(e.addr, uint64(e.length)) || wraps(e.offset, uint64(e.length)) {
		return &protocolError{"exposed memory reaches beyond 64 bits"}
	}
	m.entries[index] = e
	return nil
}

// find returns the entry that has the byte at off, or nil.
func (m *mappings) find(off uint64) *iomapEntry {
	if m == nil {
		return nil
	}
	for i := range m.entries {
		if m.entries[i].has(off) {
			return &m.entries[i]
		}
	}
	return nil
}

// iomap acts on a word about exposed memory. The caller holds mu.
func (c *Conn) iomap(value uint32) error {
	index := value & iomapIndex
	if c.extended && value&iomapConfirmed != 0 {
		if r := c.revoking; r != nil && r.index == index {
			c.revoking, c.regions[index], r.revoked = nil, nil, true
			c.wr.rouse()
			return nil
		}
		return &protocolError{"confirmation of what was not revoked"}
	}
	// It costs the peer a credit, which an rsocket would not get back otherwise.
	if err := c.in.message(); err != nil {
		return err
	}
	if index >= iomapEntries {
		return &protocolError{"index of an entry is beyond the table"}
	}
	if c.extended && value&iomapRevoked != 0 {
		if c.maps == nil || c.maps.entries[index].length == 0 {
			return &protocolError{"revocation of what was not exposed"}
		}
		c.maps.entries[index] = iomapEntry{}
		c.confirm |= 1 << index
		return nil
	}
	return c.maps.update(index, c.ownOrder)
}

// confirmDue reports whether the peer can be told that what it revoked is confirmed. The caller
// holds mu.
func (c *Conn) confirmDue() bool { return c.confirm != 0 && c.stage.controlReady() && !c.over() }

// addConfirmations adds words that confirm what the peer has revoked. The caller holds sendMu, so
// that no request to the memory follows, and mu.
func (c *Conn) addConfirmations(b *batch) {
	for i := uint32(0); c.confirm != 0 && b.w < len(b.words) && c.stage.controlReady(); i++ {
		if c.confirm&(1<<i) != 0 {
			c.confirm &^= 1 << i
			c.addWord(b, makeWord(opIomap, iomapConfirmed|i), 0)
		}
	}
}

// addDirect adds RDMA Writes of the first bytes of p to what the peer has exposed at off, and
// returns the number of bytes. The caller holds sendMu and mu.
func (c *Conn) addDirect(b *batch, p []byte, off uint64, flags transport.Flags) (n int) {
	for messages := 0; n < len(p) && messages < batchMessages; messages++ {
		at := off + uint64(n)
		e := c.maps.find(at)
		data, staged := c.sendable(p[n:])
		if e == nil || len(data) == 0 {
			break
		}
		into := at - e.offset
		data = data[:min(uint64(len(data)), uint64(e.length)-into)]
		wr, taken := c.payload(b, data, staged, flags)
		wr.RemoteSTag, wr.RemoteOffset = e.key, e.addr+into
		c.addWrite(b, wr, taken)
		n += len(data)
	}
	return n
}
