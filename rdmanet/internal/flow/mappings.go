package flow

import (
	"math/bits"

	"github.com/rdmanet/iwarp/rdmanet/internal/wire"
)

// Mappings is what the peer has exposed. nil means nothing. It is not safe for concurrent use.
type Mappings struct {
	Table   []byte // written by the peer
	Placed  bool   // with a transport that places by software, filled marks the bytes that have arrived
	filled  [wire.IomapEntries]uint32
	known   [wire.IomapEntries]bool            // was whole once
	revoked uint32                             // bits of the entries whose revocation is to be confirmed
	Entries [wire.IomapEntries]wire.IomapEntry // taken over from Table
}

const iomapFilled = 1<<wire.IomapEntryLen - 1

// Place takes bytes that the peer has written off bytes into the table.
func (m *Mappings) Place(off uint64, p []byte) {
	copy(m.Table[off:], p)
	for i := range p {
		at := off + uint64(i)
		m.filled[at/wire.IomapEntryLen] |= 1 << (at % wire.IomapEntryLen)
	}
}

// Update takes over the entry at index. It returns what is wrong with the entry, if anything.
func (m *Mappings) Update(index uint32, order wire.Order) error {
	if m == nil || m.Placed && m.filled[index] != iomapFilled && !m.known[index] {
		return wire.Violation("word for an entry that was not written")
	}
	if m.Placed && m.filled[index] != iomapFilled {
		return nil // an rsocket has written the entry twice: the first word was for both, or the second is still to come
	}
	m.filled[index], m.known[index] = 0, true
	e := order.IomapEntry(m.Table[index*wire.IomapEntryLen:])
	if wire.Wraps(e.Addr, uint64(e.Length)) || wire.Wraps(e.Offset, uint64(e.Length)) {
		return wire.Violation("exposed memory reaches beyond 64 bits")
	}
	m.Entries[index] = e
	return nil
}

// Revoke empties the entry at index, for Confirm. It reports whether there was something in it.
func (m *Mappings) Revoke(index uint32) bool {
	if m == nil || m.Entries[index].Length == 0 {
		return false
	}
	m.Entries[index] = wire.IomapEntry{}
	m.revoked |= 1 << index
	return true
}

// Confirmable reports whether there are revocations that are to be confirmed to the peer.
func (m *Mappings) Confirmable() bool { return m != nil && m.revoked != 0 }

// Confirm returns an entry whose revocation is to be confirmed, which it then no longer is.
func (m *Mappings) Confirm() (index uint32) {
	index = uint32(bits.TrailingZeros32(m.revoked))
	m.revoked &^= 1 << index
	return index
}

// Find returns the entry that has the byte at off, or nil.
func (m *Mappings) Find(off uint64) *wire.IomapEntry {
	if m == nil {
		return nil
	}
	for i := range m.Entries {
		if m.Entries[i].Has(off) {
			return &m.Entries[i]
		}
	}
	return nil
}
