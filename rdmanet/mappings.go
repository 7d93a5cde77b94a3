package rdmanet

// Mappings is what the peer has exposed. It is guarded by Conn.mu.
type mappings struct {
	table   []byte // written by the peer
	placed  bool   // with a transport that places by software, filled marks the bytes that have arrived
	filled  [IomapEntries]uint32
	known   [IomapEntries]bool       // was whole once
	entries [IomapEntries]IomapEntry // taken over from table
}

const iomapFilled = 1<<IomapEntryLen - 1

// place takes bytes that the peer has written off bytes into the table.
func (m *mappings) place(off uint64, p []byte) {
	copy(m.table[off:], p)
	for i := range p {
		at := off + uint64(i)
		m.filled[at/IomapEntryLen] |= 1 << (at % IomapEntryLen)
	}
}

// update takes over the entry at index. It returns what is wrong with it, if anything.
func (m *mappings) update(index uint32, order Order) error {
	if m == nil || m.placed && m.filled[index] != iomapFilled && !m.known[index] {
		return Violation("word for an entry that was not written")
	}
	if m.placed && m.filled[index] != iomapFilled {
		return nil // an rsocket has written the entry twice: the first word was for both, or the second one is to come
	}
	m.filled[index], m.known[index] = 0, true
	e := order.IomapEntry(m.table[index*IomapEntryLen:])
	if Wraps(e.Addr, uint64(e.Length)) || Wraps(e.Offset, uint64(e.Length)) {
		return Violation("exposed memory reaches beyond 64 bits")
	}
	m.entries[index] = e
	return nil
}

// find returns the entry that has the byte at off, or nil.
func (m *mappings) find(off uint64) *IomapEntry {
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
