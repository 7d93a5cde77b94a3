package rdmanet

import (
	"context"
	"runtime"
	"sync"
	"time"
	"weak"

	pkgerrors "github.com/pkg/errors"

	"github.com/rdmanet/iwarp/internal/redirect"
	"github.com/rdmanet/iwarp/rdmanet/internal/flow"
	"github.com/rdmanet/iwarp/rdmanet/internal/wire"
	"github.com/rdmanet/iwarp/transport"
)

const maxChunk = 64 << 10 // bytes of the largest message; rsockets sends no more in one either

// A hello is what both ends say when they connect.
type hello struct {
	own, peer       wire.ConnData
	ownExt, peerExt wire.Extension
	buf             [helloLen]byte
}

var hellos = sync.Pool{New: func() any { return new(hello) }}

// helloLen is as much as this package says.
const helloLen = 96

// Client makes a connection of k, on the active side. It prepares the queue pair, connects and
// checks what the peer says. A nil cfg means the defaults. After an error everything is closed.
func Client(ctx context.Context, k transport.Connector, cfg *Config) (*Conn, error) {
	c, conf, err := newConn(k.QueuePair(), cfg)
	if err != nil {
		_ = k.Close()
		return nil, err
	}
	h := hellos.Get().(*hello)
	defer hellos.Put(h)
	own := c.connData(h, wire.LittleEndian, !conf.Plain)
	askFor(own, k)
	if own.Ext != nil {
		own.Ext.Line = c.ring.Virtual()
	}
	var proof hostProof
	if own.Ext != nil {
		proof = c.hostProof(true)
		own.Ext.Proof = proof.own
	}
	private := h.buf[:0]
	if !c.ring.Virtual() {
		private = nil // a device may still read it once the call has returned
	}
	answer, err := k.Connect(ctx, own.Append(private))
	if err != nil {
		_ = k.Close()
		c.release()
		if own.Ext != nil {
			err = refused(err, own.Ext.Redirectable)
		}
		return nil, err
	}
	if err := h.peer.Parse(answer, &h.peerExt); err != nil {
		_ = c.qp.Abort()
		c.release()
		return nil, err
	}
	proof.holds(&h.peer)
	c.start(&h.peer, own)
	c.connected(&conf, &h.peer)
	c.publish(false)
	c.open()
	runtime.SetFinalizer(c, (*Conn).finalize)
	return c, nil
}

// open sends what the responder may have to wait for before it sends: all that it must be told at
// the start, if anything.
func (c *Conn) open() {
	if o, ok := transport.As[transport.EarlySender](c.qp); ok && o.PeerMaySend() {
		c.give()
		return
	}
	c.sendMu.Lock()
	b := batches.Get().(*batch)
	c.mu.Lock()
	c.addGrant(b, 0)
	c.mu.Unlock()
	_ = c.postAndRelease(b)
	if c.giveWanted.Load() {
		c.give()
	}
}

// Server makes a connection of r, on the passive side. It checks what the peer says, prepares the
// queue pair and accepts; a peer that does not speak the protocol is rejected. A nil cfg means the
// defaults. After an error everything is closed.
func Server(ctx context.Context, r transport.Request, cfg *Config) (*Conn, error) {
	h := hellos.Get().(*hello)
	defer hellos.Put(h)
	peer := &h.peer
	if err := peer.Parse(r.PrivateData(), &h.peerExt); err != nil {
		_ = r.Reject(nil)
		return nil, err
	}
	if l, ok := r.(*redirect.Request); ok {
		if err := turnAway(l, peer); err != nil {
			return nil, err
		}
	}
	c, conf, err := newConn(r.QueuePair(), cfg)
	if err != nil {
		_ = r.Reject(refusal(peer, why(r, err)))
		return nil, err
	}
	// An rsocket that sees the other byte order here fails, so we speak the peer's own, whatever it
	// is.
	own := c.connData(h, peer.Order, peer.Ext != nil && !conf.Plain)
	if own.Ext != nil && peer.Ext.Proof != (wire.Proof{}) {
		if proof := c.hostProof(false); proof.holds(peer) {
			own.Ext.Proof = proof.own
		}
	}
	c.start(peer, own)
	if err := r.Accept(ctx, own.Append(h.buf[:0])); err != nil {
		c.release()
		return nil, err
	}
	c.connected(&conf, peer)
	c.publish(true)
	runtime.SetFinalizer(c, (*Conn).finalize)
	return c, nil
}

// newConn registers the memory of a connection and posts its receives. After an error the memory is
// given back.
func newConn(qp transport.QueuePair, cfg *Config) (*Conn, Config, error) {
	placers, virtual := transport.As[transport.PlacerRegistrar](qp)
	conf, err := cfg.withDefaults(virtual)
	if err != nil {
		return nil, conf, err
	}
	a := qp.Attributes()
	c := &Conn{qp: qp, linger: -1, immediate: a.Immediate}
	if !a.Immediate {
		_, c.slots.words = transport.As[transport.WordReceiver](qp)
	}
	c.slots.bare = a.Immediate || c.slots.words
	c.quick, _ = transport.As[quick](qp)
	start := startWindow
	if cfg != nil && cfg.Credits != 0 {
		start = conf.Credits
	}
	if err := c.slots.plan(start, conf.Credits, a.RecvDepth); err != nil {
		return nil, conf, err
	}
	if c.stage, err = newStage(a); err != nil {
		return nil, conf, err
	}
	c.ring.Size = uint64(conf.RingSize)
	if virtual {
		c.in.Space.Open(&conf.Budget.account, uint32(c.ring.Size), time.Now())
		err = c.registerPlacer(placers)
	} else {
		c.mem = &memories{ringMost: c.ring.Size}
		c.ring.Size = uint64(firstRing(conf.RingSize))
		c.in.Space.Fix(uint32(c.ring.Size))
		err = c.allocateBuffers()
	}
	c.ring.Grant(c.in.Half())
	if err == nil {
		err = c.slots.open(qp)
	}
	if err != nil {
		c.release()
		return nil, conf, err
	}
	return c, conf, nil
}

// registerPlacer makes the ring, and the table after it, reachable where a transport places by
// software.
func (c *Conn) registerPlacer(qp transport.PlacerRegistrar) error {
	c.out.Placed = true
	c.placer = &placer{c: weak.Make(c)}
	r, err := qp.RegisterPlacer(c.ring.Size+wire.TableLen+wire.IomapTableLen, c.placer)
	if err != nil {
		return pkgerrors.Wrap(err, "register ring and table")
	}
	c.reach(r, c.ring.Size)
	return nil
}

// reach records where the peer finds the ring of that size, and the table after it.
func (c *Conn) reach(r transport.MemoryRegion, size uint64) {
	c.in.Ring = wire.SGE{Addr: r.Base(), Key: uint32(r.STag()), Length: uint32(size)}
}

// allocateBuffers makes two regions: the peer can write to the ring and the table, and to nothing
// else.
func (c *Conn) allocateBuffers() (err error) {
	size := int(c.ring.Size)
	c.mem.remote, err = allocate(c.qp, size+wire.TableLen+wire.IomapTableLen, transport.RemoteWrite|transport.CallerDriven)
	if err != nil {
		return pkgerrors.Wrap(err, "register ring and table")
	}
	c.ring.Use(c.mem.remote.b[:size])
	c.out.Table = (*flow.Table)(c.mem.remote.b[size:])
	c.maps = &flow.Mappings{Table: c.mem.remote.b[size+wire.TableLen:]}
	c.reach(c.mem.remote.region, c.ring.Size)
	n := c.slots.size()
	total := n
	if !c.stage.bare() {
		total += firstStage(n)
	}
	if total == 0 {
		return nil
	}
	c.mem.local, err = allocate(c.qp, total, transport.LocalWrite)
	if err != nil {
		return pkgerrors.Wrap(err, "register receive slots and send buffer")
	}
	c.slots.use(c.mem.local.part(0, n))
	if !c.stage.bare() {
		c.stage.use(c.mem.local.part(n, total))
	}
	return nil
}

// connData returns what the peer is told of this end.
func (c *Conn) connData(h *hello, order wire.Order, extend bool) *wire.ConnData {
	table := wire.SGE{Addr: c.in.Ring.Addr + uint64(c.in.Ring.Length), Key: c.in.Ring.Key, Length: wire.TableEntries}
	h.own = wire.ConnData{Order: order, Credits: uint16(c.slots.window), Table: table, Ring: c.in.Ring, Iomap: wire.IomapEntries}
	h.own.Ring.Length = uint32(c.in.Half())
	if extend {
		h.own.Ext = &h.ownExt
		h.ownExt = wire.Extension{
			WholeRing:  true,
			Wordless:   c.ring.Virtual(),
			MaxSegment: uint32(max(c.qp.Attributes().MaxRecvSeg, 0)),
		}
	}
	return &h.own
}

// start sets the state that follows from what both ends have said.
func (c *Conn) start(peer, own *wire.ConnData) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.extended = peer.Ext != nil && own.Ext != nil
	c.order, c.ownOrder, c.peerTable, c.peerIomap = peer.Order, own.Order, peer.Table, int16(min(peer.Iomap, mostExposed))
	if c.extended {
		c.ring.Grant(c.in.Half())
		c.ring.Wordless = own.Ext.Wordless
	}
	c.in.Start(c.in.Ring, c.slots.window, peer.Table.Length, c.extended)
	c.out.Start(peer, own.Order, c.extended, c.immediate)
}

// connected completes the connection once the queue pair is in operation.
func (c *Conn) connected(conf *Config, peer *wire.ConnData) {
	if segment := c.setPieces(conf, peer); segment > 0 {
		// A transport that cannot do so keeps what it has.
		_ = c.qp.SetMaxSegment(segment)
	}
	c.writesNow = c.quick != nil && c.out.Wordless && c.stage.bare()
}

// setPieces settles how large the pieces are in which data is sent, and returns the size of the
// largest segment, or 0 to leave that to the transport.
func (c *Conn) setPieces(conf *Config, peer *wire.ConnData) (segment int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.extended && peer.Ext.MaxSegment > 0 {
		segment = min(int(peer.Ext.MaxSegment), conf.MaxSegment)
	}
	switch {
	case !c.stage.bare(): // a device is not for slow paths
	case !c.out.Wordless:
		c.out.SetPieces(maxChunk, time.Now())
	case segment > 0:
		c.out.SetPieces(segment, time.Now())
		segment = c.out.Piece()
	}
	return segment
}
