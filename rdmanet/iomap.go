package rdmanet

import (
	"github.com/rdmanet/iwarp/rdmanet/internal/wire"
	"github.com/rdmanet/iwarp/transport"
)

// iomap acts on a word about exposed memory. The caller holds mu.
func (c *Conn) iomap(value uint32) error {
	index := value & wire.IomapIndex
	if c.extended && value&wire.IomapConfirmed != 0 {
		if x := c.exposed; x != nil && x.revoking != nil && x.revoking.index == index {
			x.revoking.revoked = true
			x.revoking, x.regions[index] = nil, nil
			c.wr.rouse()
			return nil
		}
		return wire.Violation("confirmation of what was not revoked")
	}
	// It costs the peer a credit, which an rsocket would otherwise not get back.
	if err := c.in.Message(); err != nil {
		return err
	}
	if index >= wire.IomapEntries {
		return wire.Violation("index of an entry is beyond the table")
	}
	if c.extended && value&wire.IomapRevoked != 0 {
		if !c.maps.Revoke(index) {
			return wire.Violation("revocation of what was not exposed")
		}
		return nil
	}
	return c.maps.Update(index, c.ownOrder)
}

// confirmDue reports whether there are revocations of the peer that can be confirmed to it. The
// caller holds mu.
func (c *Conn) confirmDue() bool { return c.maps.Confirmable() && c.stage.controlReady() && !c.over() }

// addConfirmations adds words that confirm what the peer has revoked. The caller holds sendMu, so
// that no request to the memory follows, and mu.
func (c *Conn) addConfirmations(b *batch) {
	for c.maps.Confirmable() && b.w < len(b.words) && c.stage.controlReady() {
		c.addWord(b, wire.MakeWord(wire.OpIomap, wire.IomapConfirmed|c.maps.Confirm()), 0)
	}
}

// addDirect adds RDMA Writes of the first bytes of p to what the peer has exposed at off, and
// returns the number of bytes. The caller holds sendMu and mu.
func (c *Conn) addDirect(b *batch, p []byte, off uint64, flags transport.Flags) (n int) {
	for messages := 0; n < len(p) && messages < batchMessages; messages++ {
		at := off + uint64(n)
		e := c.maps.Find(at)
		data, staged := c.sendable(p[n:])
		if e == nil || len(data) == 0 {
			break
		}
		into := at - e.Offset
		data = data[:min(uint64(len(data)), uint64(e.Length)-into)]
		wr, taken := c.payload(b, data, staged, flags)
		wr.RemoteSTag, wr.RemoteOffset = transport.STag(e.Key), e.Addr+into
		c.addWrite(b, wr, taken)
		n += len(data)
	}
	return n
}
