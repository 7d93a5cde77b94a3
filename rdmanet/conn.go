package rdmanet

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rdmanet/iwarp/internal/instant"
	"github.com/rdmanet/iwarp/internal/statpage"
	"github.com/rdmanet/iwarp/rdmanet/internal/flow"
	"github.com/rdmanet/iwarp/rdmanet/internal/wire"
	"github.com/rdmanet/iwarp/transport"
)

// A Conn is a stream connection over a queue pair. Its methods may be called by several goroutines
// at once, and behave as those of net.TCPConn; Reads, and Writes, are done one after another. One
// thing of package net's does not work with it: net.Buffers.WriteTo is not a single Write here; see
// WriteBuffers.
//
// It is not a syscall.Conn: what is on the socket below is not the stream. To find out whether the
// peer has closed a connection that is idle, as pools do, set a read deadline a millisecond ahead
// and Read one byte: an error that matches os.ErrDeadlineExceeded means that it has not, and leaves
// the connection as it was.
//
// Read returns io.EOF only after the peer has said that it has finished writing or has closed. A
// connection that ends without such a word fails with an error that matches io.ErrUnexpectedEOF, or
// syscall.ECONNRESET where it was reset.
//
// Every other error is of the class that a net.TCPConn on Linux gives in the same situation, with
// these exceptions:
//   - A reset fails every call that follows with syscall.ECONNRESET. A socket reports it once;
//     after that its Reads return io.EOF, and its Writes fail with syscall.EPIPE.
//   - That the peer has closed, or has reset the connection, is noticed by Read, by another call
//     that waits, and by CloseRead and CloseWrite. Writes are accepted until then, and after an
//     orderly close one more; a CloseWrite after such a Write returns nil.
//   - A peer that closes without reading everything is told apart by syscall.ECONNRESET, as with a
//     socket, but only once everything that it wrote has been read, and only if it is of this
//     package.
//   - What the peer writes after CloseRead and CloseWrite fails there and resets nothing here.
type Conn struct {
	qp        transport.QueuePair
	addrs     atomic.Pointer[addrs]
	peerTable wire.SGE
	peerIomap int16      // entries after it, for memory that is exposed here
	order     wire.Order // of words, and of entries written to the peer's table
	ownOrder  wire.Order // of entries that the peer writes here
	extended  bool
	immediate bool // words go as immediate data
	writesNow bool // data may go by quick
	stage     stage
	quick     quick // nil if the queue pair has no short ways
	slots     slots // belongs to the driver
	calls     calls

	// Locks are taken in this order: the side's, sendMu, mu. The queue pair is never used with mu
	// held, as it may place bytes during any call.
	rd, wr     side
	sendMu     sync.Mutex  // held from when it is recorded what to send until that is posted
	giveWanted atomic.Bool // the holder of sendMu must call give once it has let go
	peerGone   atomic.Bool // peer is disconnected; for those who look often

	mu   sync.Mutex // guards the rest
	ring flow.Ring
	in   flow.Inbound
	out  flow.Outbound

	placer *placer   // nil unless the transport places by software
	mem    *memories // nil where the transport places by software

	driver             role // whose call may wait for the queue pair, and poll it
	released           bool // mem is, so that it must not be touched
	closed, readClosed bool
	own, peer          end  // what this end has said of its end, or is about to; what the peer has
	refused            bool // a Write was told that the peer has closed, or was accepted and lost
	peerLeftUnread     bool // the peer has closed without reading all, or is about to say so
	peerShut           bool // the peer has said SHUTDOWN
	talks              bool // data has gone to a peer of this package since that was last told of space
	noKeepAlive        bool
	failureTold        bool  // to statpage.OnFailure
	linger             int32 // seconds, as SetLinger has it
	after              *aftermath

	maps    *flow.Mappings // what the peer has exposed; nil while it has exposed nothing
	exposed *exposures     // nil while nothing was exposed here

	stats *statpage.Conn // what others see; nil before the connection is up, and once it is closed
}

// An aftermath is what is known once a connection is broken or closed.
type aftermath struct {
	err     error         // why the queue pair ended; all that came before is in the ring
	sendErr error         // why nothing can be sent; known before err is
	fault   error         // what was wrong with what the peer has placed; it is what ended the connection
	final   *statpage.Sum // what stats said when it was closed
}

// aftermath returns what may be added to. The caller holds mu.
func (c *Conn) aftermath() *aftermath {
	if c.after == nil {
		c.after = new(aftermath)
	}
	return c.after
}

// err returns why the queue pair ended, or nil. The caller holds mu.
func (c *Conn) err() error {
	if c.after == nil {
		return nil
	}
	return c.after.err
}

// sendErr returns why nothing can be sent, or nil. The caller holds mu.
func (c *Conn) sendErr() error {
	if c.after == nil {
		return nil
	}
	return c.after.sendErr
}

var _ net.Conn = (*Conn)(nil)

// quick are the short ways that the queue pairs in software have.
type quick interface {
	transport.NowWriter
	transport.CompletionTeller
}

// A role says whose call it is that drives.
type role uint8

const (
	nobody role = iota
	reader
	writer
	looker // a call that only looks
)

// role returns that of the calls of s.
func (c *Conn) role(s *side) role {
	switch s {
	case &c.rd:
		return reader
	case &c.wr:
		return writer
	}
	return looker
}

// A side is what Read and Write each have of their own.
type side struct {
	lock     sync.Mutex  // held by the call under way
	draining atomic.Bool // it waits for the queue pair to take what was posted
	behind   bool        // guarded by lock: what was posted before may not all have been taken by the host

	// The others are guarded by Conn.mu.
	parked   bool // waits to be woken, as the other side's call is the driver
	deadline instant.Time
	parking  *parking // made when it is first needed
}

// A parking is what a side waits for while the other side's call is the driver.
type parking struct {
	wake  chan struct{}
	timer *time.Timer // nil until there is a deadline
}

// addrs are the addresses of both ends in the form of package net.
type addrs struct {
	local, remote net.TCPAddr
	ips           [2][16]byte // of both
}

// ends returns the addresses, which are made when they are first asked for.
func (c *Conn) ends() *addrs {
	if a := c.addrs.Load(); a != nil {
		return a
	}
	a := new(addrs)
	setAddr(&a.local, &a.ips[0], c.qp.LocalAddr())
	setAddr(&a.remote, &a.ips[1], c.qp.RemoteAddr())
	if !c.addrs.CompareAndSwap(nil, a) {
		return c.addrs.Load()
	}
	return a
}

// setAddr makes of a what net.TCPAddrFromAddrPort returns, with the IP in mem.
func setAddr(a *net.TCPAddr, mem *[16]byte, from netip.AddrPort) {
	*mem = [16]byte{}
	n := 0
	if ip := from.Addr(); ip.Is4() {
		b := ip.As4()
		n = copy(mem[:], b[:])
	} else if ip.IsValid() {
		*mem = ip.As16()
		n = len(mem)
	}
	*a = net.TCPAddr{IP: mem[:n:n], Zone: from.Addr().Zone(), Port: int(from.Port())}
}

// LocalAddr returns the local address, a *net.TCPAddr. It stays valid after Close.
func (c *Conn) LocalAddr() net.Addr { return &c.ends().local }

// RemoteAddr returns the peer's address, a *net.TCPAddr. It stays valid after Close.
func (c *Conn) RemoteAddr() net.Addr { return &c.ends().remote }

// Attributes returns what was negotiated for the queue pair below.
func (c *Conn) Attributes() transport.Attributes { return c.qp.Attributes() }

// Extended reports whether the peer is of this package too, and both ends do more than rsockets.
func (c *Conn) Extended() bool { return c.extended }
