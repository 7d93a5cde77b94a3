package iwarp

import (
	"context"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"weak"

	"github.com/rdmanet/iwarp/internal/ports"
	"github.com/rdmanet/iwarp/rdmanet"
	"github.com/rdmanet/iwarp/transport"
)

// A Listener accepts iWARP and plain TCP connections on one port. Where the host has an iWARP
// device, which would keep the clients of the kernel's TCP from a port that it listens on, the
// device listens on another, and clients with such a device are redirected there; connections
// accepted from it nevertheless have the one port in their LocalAddr. The methods may be called
// from several goroutines at once.
//
// Clients are taken from the kernel's queue only while a call of Accept waits, as with package net.
// Plain TCP clients that have spoken are returned one per call. Finding out what the others are
// takes time, for which no other client has to wait, or with OffloadRequire no longer than 2 ms now
// and then: while an Accept waits, up to 512 clients whose first bytes are still to come and 1024
// in all, or an eighth of the process's limit of descriptors if that is less, or as many as
// ListenConfig.MaxHalfOpen says, are taken to find out, and stay taken when it returns. If there
// are more, the oldest gives way: it counts as silent, or is reset if it has begun to ask for
// iWARP. Since the set-up of an iWARP connection takes both ends, a Dial of a client that speaks
// iWARP ends only once the server is in Accept. Dials of the same process do not need that: they
// make sure themselves that the client is taken, unless another process shares the socket.
//
// A Listener that is dropped without Close is closed by the garbage collector.
type Listener struct {
	*listening
	network string
	policy  Offload
	config  ListenConfig

	direct    bool // nothing but plain TCP is served
	guards    bool // late MPA requests can be kept from applications
	kernel    kernelTransport
	prompt    bool           // the set-up through it waits for nothing but the client's request
	stream    rdmanet.Config // of what is accepted
	redirects bool           // the kernel's listener is there only to redirect
	whyNone   error          // why a device does not listen, if one does not

	ctx      context.Context // of the handshakes; ends with Close
	cancel   context.CancelFunc
	cleanup  runtime.Cleanup // for a Listener that is dropped
	finding  chan struct{}   // held by the search for devices that have come
	half     halfOpenSet
	sharing  peerShares
	refusals refusals
	silence  *silence
	herald   herald
	workers  sync.WaitGroup
	counters counters

	turn   chan struct{} // held by the call of Accept that takes clients from the kernel
	nudge  chan struct{} // wakes it where it does not wait for those
	moment moment        // for which it waits for the request of one
	pause  time.Duration // for which it leaves them there, 0 if nothing more is taken

	closing chan struct{} // closed by Close

	mu         sync.Mutex
	state      listenerState
	until      time.Time // deadline of Accept
	limit      time.Time // deadline of take, and of tcp unless it was kicked
	calls      int       // calls of Accept under way
	accepting  bool      // one is in accept(2), or about to be
	kicked     bool      // it has been called back by a deadline in the past
	taken      bool      // Drain has taken what there was to take
	ready      []client
	fault      error              // of a device, for a call of Accept that waits
	idle       context.CancelFunc // ends the wait for devices' requests; set while calls > 0
	deviceCtx  context.Context
	assistants int                      // of calls, those not made by Accept
	serving    map[*deviceListener]bool // those that a goroutine waits on
	called     chan struct{}            // closed by the first call; nil unless a request waits for one
	pushed     int                      // requests that devices' listeners are handing on
	out        chan struct{}            // closed when nobody is in accept(2) any more
	left       chan struct{}            // closed when no call of Accept is under way any more
	drained    chan struct{}            // closed when nobody is on the way to ready any more
}

type listenerState uint8

const (
	listens listenerState = iota
	draining
	closed
)

// listening is what a listener holds. It does not refer to the Listener, so that it can be given
// back when the Listener is garbage.
type listening struct {
	tcp     *net.TCPListener   // holds the port
	port    *ports.Reservation // that tcp was made of, or that stands for it
	touched atomic.Bool        // somebody had the descriptor, and may have a copy that nobody knows of

	devMu   sync.Mutex // guards the next two
	devices []*deviceListener
	stopped bool // nothing may be added to devices

	transports []transport.Transport // of devices
	unwatch    []func()              // end the watch for devices that come later

	at   netip.AddrPort         // where dials of this process find it
	self weak.Pointer[Listener] // what they find

	once sync.Once
	err  error
}

// client is a connection that is ready for Accept.
type client struct {
	net.Conn
	silent *halfOpen // not nil if it has said nothing, which is checked again
}

var _ net.Listener = (*Listener)(nil)

// Accept waits for the next connection and returns it: a *net.TCPConn or an *rdmanet.Conn. The
// failure of a client is never an error of Accept. Clients come in the order in which they were
// identified: plain TCP clients in the order in which they connected, except for those that speak
// later than the next ones. After Close the error matches net.ErrClosed, after the deadline
// os.ErrDeadlineExceeded.
func (l *Listener) Accept() (net.Conn, error) {
	if !l.ok() {
		return nil, syscall.EINVAL
	}
	c, err := l.accept()
	if err == nil {
		l.logAccepted(c) // for which nobody else waits
	}
	return c, err
}

// accept is Accept without telling of it.
func (l *Listener) accept() (net.Conn, error) {
	if err := l.enter(false); err != nil {
		return nil, err
	}
	defer l.leave(false)
	// Calls take turns, as those of a *net.TCPListener do. Whatever ends a call also ends the next one
	// once that has the turn, so only one has to be woken.
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-l.closing: // which leaves nothing to wait for
	}
	for {
		c, found, err := l.next()
		switch {
		case err != nil:
			return nil, err
		case !found:
			c, err = l.take()
		}
		if err != nil {
			return nil, err
		}
		if c.silent != nil {
			c = l.lookAgain(c)
		}
		if c.Conn != nil {
			return c.Conn, nil
		}
	}
}

// Close ends the listener and the connections that it has taken but Accept has not returned, and
// waits for the calls of Accept to end. Clients that wait in the kernel's queue are reset, unless
// another process shares the socket. After Drain, calls of Accept still get what is left, for a
// second. A second call returns net.ErrClosed in a *net.OpError.
func (l *Listener) Close() error {
	if !l.ok() {
		return syscall.EINVAL
	}
	l.mu.Lock()
	if l.state == closed {
		l.mu.Unlock()
		return l.fail("close", net.ErrClosed)
	}
	l.state = closed
	l.counters.show(closed)
	close(l.closing)
	l.kick()
	var left chan struct{}
	if l.calls > 0 {
		left = make(chan struct{})
		l.left = left
	}
	l.mu.Unlock()
	l.cleanup.Stop()
	err := l.end()
	if left != nil {
		l.awaitCalls(left)
	}
	l.cancel()
	l.finding <- struct{}{} // what the last search has found was given back
	l.half.wake()
	l.workers.Wait()
	l.leaveDevices()
	if l.isTaken() {
		time.AfterFunc(drainGrace, l.resetReady)
	} else {
		l.resetReady()
	}
	return err
}

// awaitCalls waits for calls of Accept to be done, as far as that is up to this process. It reports
// whether they are.
func (l *Listener) awaitCalls(done <-chan struct{}) bool {
	var enough <-chan time.Time
	if l.isShared() {
		t := time.NewTimer(ports.ClosePatience)
		defer t.Stop()
		enough = t.C
	}
	select {
	case <-done:
		return true
	case <-enough:
		return false
	}
}

// Addr returns the address as a *net.TCPAddr, even after Close.
func (l *Listener) Addr() net.Addr {
	if !l.ok() {
		return nil
	}
	return l.tcp.Addr()
}

// SetDeadline sets the point in time at which Accept, even one under way, fails with
// os.ErrDeadlineExceeded. The zero time means never. No clients are lost: they stay where they are
// until a later Accept.
func (l *Listener) SetDeadline(t time.Time) error {
	if !l.ok() {
		return syscall.EINVAL
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state == closed {
		return l.fail("set", net.ErrClosed)
	}
	l.until = t
	if !t.IsZero() {
		l.until = time.Now().Add(time.Until(t)) // by the clock that nobody sets
	}
	if l.state == listens && !l.kicked {
		l.limit = l.until
		_ = l.tcp.SetDeadline(l.until)
	}
	if !l.accepting {
		l.kick()
	}
	return nil
}

// SyscallConn returns the kernel's listening socket for Control, for example to set options. Read
// and Write of the result fail with EINVAL, as with a *net.TCPListener. Options that connections
// inherit concern plain TCP connections, and what carries iWARP in software. The socket must not be
// accepted from, closed or made to block.
func (l *Listener) SyscallConn() (syscall.RawConn, error) {
	if !l.ok() {
		return nil, syscall.EINVAL
	}
	rc, err := l.tcp.SyscallConn()
	if err != nil {
		return nil, err
	}
	return rawListener{l, rc}, nil
}

// rawListener keeps the Listener from being garbage collected.
type rawListener struct {
	l *Listener
	syscall.RawConn
}

func (r rawListener) Control(f func(fd uintptr)) error {
	defer runtime.KeepAlive(r.l)
	r.l.touched.Store(true)
	return r.RawConn.Control(f)
}

func (l *Listener) ok() bool { return l != nil && l.listening != nil }

func (l *Listener) fail(op string, err error) error {
	return &net.OpError{Op: op, Net: l.network, Addr: l.tcp.Addr(), Err: err}
}

// end closes what clients come in by.
func (h *listening) end() error {
	h.once.Do(func() {
		h.forgetSelf()
		for _, stop := range h.unwatch {
			stop()
		}
		h.err = h.port.Unlisten(h.tcp)
		h.stopDevices()
	})
	return h.err
}

// drop is end for a Listener that is garbage.
func (h *listening) drop() {
	_ = h.end()
	h.leaveDevices()
}

// reset closes a connection that nobody has seen, as the kernel does with those in the backlog of a
// socket that is closed.
func reset(c net.Conn) {
	if c, ok := c.(interface{ SetLinger(int) error }); ok {
		_ = c.SetLinger(0)
	}
	_ = c.Close()
}
