package rdmanet

import (
	"errors"
	"math"
	"net"
	"os"

	"github.com/rdmanet/iwarp/rdmanet/internal/wire"
	"github.com/rdmanet/iwarp/transport"
)

var (
	// ErrNotExposed is found by errors.Is in the error of a WriteAt to an offset at which the peer
	// has no memory exposed.
	ErrNotExposed = errors.New("peer has exposed no memory at the offset")

	errExposeRange   = errors.New("exposed memory is out of range; use an offset of 0 or more and 1 to 2^31-1 bytes")
	errExposeOverlap = errors.New("memory is exposed already at some of the offsets; close that region first")
	errExposeFull    = errors.New("peer has no free entry for exposed memory; close a region first")
	errExposeNone    = errors.New("peer cannot write to exposed memory; an rsocket needs RDMA_IOMAPSIZE for that")
)

// A Region is memory that the peer can write to. Its methods may be called by several goroutines at
// once. A connection lives as long as its Regions do.
type Region struct {
	c *Conn
	e *exposure
}

// An exposure is what the connection knows about a Region. It does not lead back to the connection,
// which otherwise could not be garbage collected.
type exposure struct {
	offset uint64
	memory memory
	index  uint32 // in the peer's table

	// Guarded by Conn.mu.
	closed, revoked bool
}

// mostExposed is how many Regions a connection can have at most.
const mostExposed = 1 << 10

// exposures are what a connection has exposed.
type exposures struct {
	regions  []*exposure // by index
	revoking *exposure   // that the peer must confirm
}

// Bytes returns the memory, or nil after Close. The peer may change it at any time, in any order of
// bytes; what it wrote before a message of the stream is in place when that message is read, and it
// is not safe to look before that, except by atomic operations. Bytes got before Close may be
// touched after it for as long as the Region is kept, but mean nothing.
func (r *Region) Bytes() []byte {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	if r.e.closed {
		return nil
	}
	return r.e.memory.b
}

// Offset returns where the region begins, as the peer sees it.
func (r *Region) Offset() int64 { return int64(r.e.offset) }

// Expose lets the peer write to n bytes of new memory, all zero, with WriteAt, or riowrite of
// rsockets, at the offsets from off on. The peer knows of it before it reads what is written to the
// stream next. Its writes are taken whether or not a call is under way here, in software by a
// goroutine.
//
// Regions of one connection must not overlap. The peer's table limits their number, which is 16
// with this package. Where the transport needs memory of its own, Expose uses that. It waits, and
// fails, as Write does.
func (c *Conn) Expose(off int64, n int) (*Region, error) {
	r, err := c.expose(off, n)
	if err != nil {
		return nil, c.opError("expose", err)
	}
	return r, nil
}

func (c *Conn) expose(off int64, n int) (*Region, error) {
	if off < 0 || n <= 0 || n > math.MaxInt32 || off > math.MaxInt64-int64(n) {
		return nil, errExposeRange
	}
	if !c.calls.begin() {
		return nil, net.ErrClosed
	}
	defer c.calls.end()
	c.wr.lock.Lock()
	defer c.wr.lock.Unlock()
	index, err := c.freeIndex(uint64(off), uint64(n))
	if err != nil {
		return nil, err
	}
	e := &exposure{offset: uint64(off), index: index}
	if e.memory, err = allocate(c.qp, n, transport.RemoteWrite); err != nil {
		return nil, cause("expose", err)
	}
	c.sendMu.Lock()
	c.mu.Lock()
	for err = c.writable(); err == nil && !c.mayMap(); err = c.writable() {
		c.awaitSending()
	}
	c.stopDriving(&c.wr)
	if err != nil {
		c.mu.Unlock()
		c.sendMu.Unlock()
		if c.giveWanted.Load() {
			c.give()
		}
		e.memory.free()
		return nil, err
	}
	c.exposed.regions[index] = e
	m := e.memory.region
	b := batches.Get().(*batch)
	c.out.Mapped(c.extended)
	c.addMessage(b, c.iomapWrite(b, index, wire.IomapEntry{Offset: e.offset, SGE: wire.SGE{Addr: m.Base(), Key: uint32(m.STag()), Length: uint32(n)}}), wire.MakeWord(wire.OpIomap, index), 0)
	c.mu.Unlock()
	err = c.postAndRelease(b)
	if c.giveWanted.Load() {
		c.give()
	}
	if err != nil {
		e.memory.free()
		return nil, writeError(err)
	}
	return &Region{c, e}, nil
}

// freeIndex finds an entry of the peer's table for n bytes at off. The caller holds the lock of the
// side that writes.
func (c *Conn) freeIndex(off, n uint64) (uint32, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.writable(); err != nil {
		return 0, err
	}
	if c.exposed == nil {
		c.exposed = &exposures{regions: make([]*exposure, c.peerIomap)}
	}
	free := -1
	for i, e := range c.exposed.regions {
		switch {
		case e == nil && free < 0:
			free = i
		case e != nil && off < e.offset+uint64(len(e.memory.b)) && e.offset < off+n:
			return 0, errExposeOverlap
		}
	}
	switch {
	case len(c.exposed.regions) == 0:
		return 0, errExposeNone
	case free < 0:
		return 0, errExposeFull
	}
	return uint32(free), nil
}

// mayMap reports whether a word about exposed memory may be sent. The caller holds mu.
func (c *Conn) mayMap() bool { return c.stage.controlReady() && c.out.MayMap(c.extended) }

// iomapWrite returns the write of an entry of the peer's table.
func (c *Conn) iomapWrite(b *batch, index uint32, e wire.IomapEntry) transport.SendWR {
	c.order.PutIomapEntry(b.mapping[:], e)
	return transport.SendWR{Opcode: transport.OpWrite, Flags: transport.Inline, Data: b.mapping[:], RemoteSTag: transport.STag(c.peerTable.Key),
		RemoteOffset: c.peerTable.Addr + wire.SGELen*uint64(c.peerTable.Length) + wire.IomapEntryLen*uint64(index)}
}

// Close takes the memory back from the peer. Between two ends of this package it waits until the
// peer has confirmed that it writes no more, which the peer does in a call that waits, such as
// Read; the write deadline bounds the wait, and after it Close can be called again. An rsocket
// cannot be asked: the two programs must agree on it, as a riowrite to memory that is gone breaks
// the connection. Once the connection has ended there is nothing to wait for. A second Close
// returns net.ErrClosed.
func (r *Region) Close() error {
	c := r.c
	if c.calls.begin() {
		defer c.calls.end()
	} // otherwise there is nothing to wait for
	c.wr.lock.Lock()
	defer c.wr.lock.Unlock()
	if err := c.revoke(r.e); err != nil {
		return c.opError("revoke", err)
	}
	r.e.memory.free()
	return nil
}

// revoke tells the peer to stop writing to e, and waits until it has. The caller holds the lock of
// the side that writes.
func (c *Conn) revoke(e *exposure) error {
	c.sendMu.Lock()
	c.mu.Lock()
	defer func() {
		c.stopDriving(&c.wr)
		c.mu.Unlock()
		c.sendMu.Unlock()
		if c.giveWanted.Load() {
			c.give()
		}
	}()
	if e.closed {
		return net.ErrClosed
	}
	for !e.revoked && !c.over() {
		switch {
		case c.wr.deadline.Passed():
			return os.ErrDeadlineExceeded
		case c.exposed.revoking == nil && c.stage.controlReady() && (!c.extended || c.mayMap()):
			// One at a time, so that the peer's receives and ours suffice for the confirmations.
			b := batches.Get().(*batch)
			if c.extended {
				c.exposed.revoking = e
				c.out.Mapped(true)
				c.addWord(b, wire.MakeWord(wire.OpIomap, wire.IomapRevoked|e.index), 0)
			} else {
				// An rsocket finds nothing in an empty entry, and needs no word for that.
				e.revoked, c.exposed.regions[e.index] = true, nil
				wr := c.iomapWrite(b, e.index, wire.IomapEntry{})
				id, signal := c.stage.posted(1, 0)
				wr.ID = id
				wr.Flags |= signal
				b.add(wr)
			}
			c.mu.Unlock()
			_ = c.postAndRelease(b)
			c.sendMu.Lock()
			c.mu.Lock()
		default:
			c.awaitSending()
		}
	}
	e.closed = true
	return nil
}

// over reports whether nothing more can be told to the peer. The caller holds mu.
func (c *Conn) over() bool {
	return c.closed || c.own.disconnected() || c.peer.disconnected() || c.err() != nil || c.sendErr() != nil
}

// WriteAt writes p to memory that the peer has exposed at the offsets from off on, without the peer
// taking part. The peer is not told; it knows that p is there once it reads what is written to the
// stream afterwards. WriteAt waits, fails and counts as Write does; where the peer has exposed only
// part of the range, n is what was written and the error matches ErrNotExposed.
func (c *Conn) WriteAt(p []byte, off int64) (n int, err error) {
	if !c.calls.begin() {
		return 0, c.opError("writeat", net.ErrClosed)
	}
	defer c.calls.end()
	c.wr.lock.Lock()
	defer c.wr.lock.Unlock()
	if off < 0 {
		return 0, c.opError("writeat", errExposeRange)
	}
	n, err = c.write(p, destination{direct: true, offset: uint64(off)})
	if err != nil {
		err = c.opError("writeat", err)
	}
	return n, err
}
