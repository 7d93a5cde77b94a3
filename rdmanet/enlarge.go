package rdmanet

import (
	"github.com/rdmanet/iwarp/rdmanet/internal/wire"
	"github.com/rdmanet/iwarp/transport"
)

// Registered memory is scarce: a process may lock 8 MiB in many containers. So a connection over
// memory begins with 48 KiB of it. The ring moves on to more once the peer has filled it or the
// reader has turned out to be quick, and the stage once Writes have often had to wait for it.
const (
	firstRemote = 32 << 10 // bytes for ring and table
	firstLocal  = 16 << 10 // bytes for receive slots and stage

	enlargePatience = 64 // halves of the ring, or waits for the stage, until more is asked for again
)

// firstRing returns how much of a ring a connection begins with.
func firstRing(size int) int {
	return min(size, (firstRemote-wire.TableLen-wire.IomapTableLen)&^15)
}

// firstStage returns how much of a stage a connection begins with, beside its receive slots.
func firstStage(slots int) int { return max(firstLocal-slots, firstLocal/2) }

// more registers size bytes more, or half as much if that cannot be had, and so on down to least;
// it returns no memory if there is none. The caller holds sendMu, so that Close gives it back.
func (c *Conn) more(size, least int, access transport.Access) memory {
	for ; size >= least; size = size / 2 &^ 15 {
		if m, err := allocate(c.qp, size, access|transport.Spare); err == nil {
			return m
		}
	}
	return memory{}
}

// ringTooSmall reports whether the ring should move on to more memory. The caller holds mu.
func (c *Conn) ringTooSmall() bool {
	if c.mem == nil || c.ring.Size >= c.mem.ringMost || c.mem.remoteMore.region != nil {
		return false
	}
	return c.in.Space.Busy() || c.ring.Full() && !c.in.Space.Patient()
}

// enlargeRing moves the ring on to more memory, if there is some. The caller holds sendMu and mu,
// which is released meanwhile.
func (c *Conn) enlargeRing() {
	least, most := 2*c.ring.Size, c.mem.ringMost
	c.mu.Unlock()
	m := c.more(int(most), int(min(least, most)), transport.RemoteWrite|transport.CallerDriven)
	c.mu.Lock()
	if m.region == nil {
		c.in.Space.Bear(enlargePatience)
		return
	}
	c.mem.remoteMore = m
	c.ring.Move(m.b)
	c.stats.SetRing(c.ring.Size)
	c.in.Move(wire.SGE{Addr: m.region.Base(), Key: uint32(m.region.STag()), Length: uint32(len(m.b))}, c.ring.Announced())
}

// enlargeStage moves the stage on to more memory, if Writes have waited for it often enough and
// there is some. The caller holds sendMu and mu; it reports whether mu was released meanwhile.
func (c *Conn) enlargeStage() bool {
	s := &c.stage
	if s.waits++; s.waits < stageWaits || c.mem == nil || c.mem.localMore.region != nil {
		return false
	}
	c.mu.Unlock()
	m := c.more(stageSize, 2*int(s.size), transport.LocalWrite)
	c.mu.Lock()
	if m.region == nil {
		s.waits = -enlargePatience
		return true
	}
	c.mem.localMore = m
	s.use(m)
	return true
}
