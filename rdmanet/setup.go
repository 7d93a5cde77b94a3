package rdmanet

import (
	"context"
	"net"

	"github.com/pkg/errors"

	"github.com/rdmanet/iwarp/transport"
)

const (
	plainChunk    = 64 << 10 // rsockets sends no more in one message
	extendedChunk = 64 << 10
)

// Client makes a connection of k, on the active side. It prepares the queue pair, connects and checks what the peer says.
// A nil cfg means the defaults. After an error everything is closed.
func Client(ctx context.Context, k transport.Connector, cfg *Config) (*Conn, error) {
	c, conf, err := newConn(k.QueuePair(), cfg)
	if err != nil {
		k.Close()
		return nil, err
	}
	own := c.connData(littleEndian, !conf.Plain)
	answer, err := k.Connect(ctx, own.append(nil))
	if err != nil {
		k.Close()
		return nil, err
	}
	peer, err := parseConnData(answer)
	if err != nil {
		c.qp.Abort()
		return nil, err
	}
	c.start(peer, own)
	c.connected(conf, peer)
	c.open()
	return c, nil
}

// An opener is a queue pair that knows whether the responder is free to send, or will be soon. By RFC 5044 §7.1 it must
// wait for the first FPDU of the initiator, which is part of the connection set-up only with RFC 6581.
type opener interface {
	PeerMaySend() bool
}

// open sends what the responder may have to wait for before it sends: all that it is to be told at the start, if anything.
func (c *Conn) open() {
	if o, ok := c.qp.(opener); ok && o.PeerMaySend() {
		c.give()
		return
	}
	c.sendMu.Lock()
	b := batches.Get().(*batch)
	c.mu.Lock()
	c.addGrant(b, 0)
	c.mu.Unlock()
	c.postAndRelease(b)
	if c.giveWanted.Load() {
		c.give()
	}
}

// Server makes a connection of r, on the passive side. It checks what the peer says, prepares the queue pair and accepts; a peer
// that does not speak the protocol is rejected. A nil cfg means the defaults. After an error everything is closed.
func Server(ctx context.Context, r transport.Request, cfg *Config) (*Conn, error) {
	peer, err := parseConnData(r.PrivateData())
	if err != nil {
		r.Reject(nil)
		return nil, err
	}
	c, conf, err := newConn(r.QueuePair(), cfg)
	if err != nil {
		r.Reject(nil)
		return nil, err
	}
	// An rsocket that sees the other byte order here fails, so the peer's own is spoken, whatever it is.
	own := c.connData(peer.order, peer.ext != nil && !conf.Plain)
	c.start(peer, own)
	if err := r.Accept(ctx, own.append(nil)); err != nil {
		return nil, err
	}
	c.connected(conf, peer)
	return c, nil
}

// newConn registers the memory of a connection and posts its receives.
func newConn(qp transport.QueuePair, cfg *Config) (*Conn, *Config, error) {
	placers, virtual := qp.(transport.PlacerRegistrar)
	conf, err := cfg.withDefaults(virtual)
	if err != nil {
		return nil, nil, err
	}
	c := &Conn{qp: qp, linger: -1}
	a := qp.Attributes()
	c.ring.size = uint64(conf.RingSize)
	c.ring.granted = c.ring.size / 2
	var ring, table transport.MemoryRegion
	if virtual {
		ring, err = placers.RegisterPlacer(c.ring.size, (*ringPlacer)(c))
		if err == nil {
			c.out.placed = true
			table, err = placers.RegisterPlacer(uint64(len(c.out.table)), (*tablePlacer)(c))
		}
	} else {
		c.ring.mem = make([]byte, conf.RingSize)
		ring, err = qp.RegisterMemory(c.ring.mem, transport.RemoteWrite|transport.CallerDriven)
		if err == nil {
			table, err = qp.RegisterMemory(c.out.table[:], transport.RemoteWrite|transport.CallerDriven)
		}
	}
	if err != nil {
		return nil, nil, errors.Wrap(err, "register memory of the stream")
	}
	c.in.ring = sge{addr: ring.Base(), key: ring.STag(), length: uint32(c.ring.size)}
	c.out.own = sge{addr: table.Base(), key: table.STag(), length: tableEntries}
	if c.stage, err = newStage(qp, a); err != nil {
		return nil, nil, err
	}
	start := startWindow
	if cfg != nil && cfg.Credits != 0 {
		start = conf.Credits
	}
	return c, &conf, c.slots.init(qp, start, conf.Credits, a.RecvDepth)
}

// connData returns what the peer is told of this end.
func (c *Conn) connData(order byteOrder, extend bool) *connData {
	d := &connData{order: order, credits: uint16(c.slots.window), table: c.out.own, ring: c.in.ring}
	d.ring.length /= 2
	if extend {
		d.ext = &extension{wholeRing: true, maxSegment: uint32(max(c.qp.Attributes().MaxRecvSeg, 0))}
	}
	return d
}

// start sets the state that follows from what both ends have told.
func (c *Conn) start(peer, own *connData) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.extended = peer.ext != nil && own.ext != nil
	c.order, c.peerTable = peer.order, peer.table
	c.chunk = plainChunk
	if c.extended {
		c.chunk = extendedChunk
		c.ring.grant(c.ring.size / 2)
	}
	c.in.start(c.in.ring, c.slots.window, peer.table.length, c.extended)
	c.out.start(peer, own.order, c.extended)
}

// connected completes the connection once the queue pair is in operation.
func (c *Conn) connected(conf *Config, peer *connData) {
	if c.extended && peer.ext.maxSegment > 0 {
		// A transport that cannot stays with what it has.
		c.qp.SetMaxSegment(min(int(peer.ext.maxSegment), conf.MaxSegment))
	}
	c.local = net.TCPAddrFromAddrPort(c.qp.LocalAddr())
	c.remote = net.TCPAddrFromAddrPort(c.qp.RemoteAddr())
}

// ringPlacer is the Conn as the Placer of its ring.
type ringPlacer Conn

// Place takes a piece of the stream.
func (p *ringPlacer) Place(off uint64, b []byte) error {
	c := (*Conn)(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ring.place(off, b)
}

// tablePlacer is the Conn as the Placer of its table.
type tablePlacer Conn

// Place takes what the peer writes into the table.
func (t *tablePlacer) Place(off uint64, p []byte) error {
	c := (*Conn)(t)
	c.mu.Lock()
	c.out.place(off, p)
	c.mu.Unlock()
	return nil
}
