package rdmanet

import "github.com/rdmanet/iwarp/rdmanet/internal/wire"

// Mappings is what the peer has exposed. It is guarded by Conn.mu.
type mappings struct {
	table   []byte // written by the peer
	placed  bool   // with a transport that places by software, filled marks the bytes that have arrived
	filled  [wire.IomapEntries]uint32
	known   [wire.IomapEntries]bool            // was whole once
	entries [wire.IomapEntries]wire.IomapEntry // taken over from table
}

const iomapFilled = 1<<wire.IomapEntryLen - 1

// place takes bytes that the peer has written off bytes into the table.
func (m *mappings) place(off uint64, p []byte) {
	copy(m.table[off:], p)
	for i := range p {
		at := off + uint64(i)
		m.filled[at/wire.IomapEntryLen] |= 1 << (at % wire.IomapEntryLen)
	}
}

// update takes over the entry at index. It returns what is wrong with it, if anything.
func (m *mappings) update(index uint32, order wire.Order) error {
	if m == nil || m.placed && m.filled[index] != iomapFilled && !m.known[index] {
		return wire.Violation("word for an entry that was not written")
	}
	if m.placed && m.filled[index] != iomapFilled {
		return nil // an rsocket has written the entry twice: the first word was for both, or the second one is to come
	}
	m.filled[index], m.known[index] = 0, true
	e := order.IomapEntry(m.table[index*wire.IomapEntryLen:])
	if wire.Wraps(e.Addr, uint64(e.Length)) || wire.Wraps(e.Offset, uint64(e.Length)) {
		return wire.Violation("exposed memory reaches beyond 64 bits")
	}
	m.entries[index] = e
	return nil
}

// revoke empties the entry at index. It reports whether there was something in it.
func (m *mappings) revoke(index uint32) bool {
	if m == nil || m.entries[index].Length == 0 {
		return false
	}
	m.entries[index] = wire.IomapEntry{}
	return true
}

// find returns the entry that has the byte at off, or nil.
func (m *mappings) find(off uint64) *wire.IomapEntry {
	if m == nil {
		return nil
	}
	for i := range m.entries {
		if m.entries[i].Has(off) {
			return &m.entries[i]
		}
	}
	return nil
}
