package iwarp

import (
	"context"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A Listener accepts iWARP and plain TCP connections on one port. Where the host has an iWARP device, which would keep the clients of
// the kernel's TCP from a port that it listens on, the device listens on another, and clients with such a device are redirected there: connections
// accepted from it have the one port in their LocalAddr all the same. The methods may be called from several goroutines at once.
type Listener struct {
	tcp     *net.TCPListener // holds the port
	port    *Reservation     // that tcp was made of, or that stands for it
	handed  atomic.Bool      // File was called
	network string
	policy  Offload
	config  ListenConfig

	direct  bool // Accept goes to tcp, nothing else runs
	kernel  kernelTransport
	devices []*deviceListener

	redirects bool  // kernel is there for nothing else than to redirect
	whyNone   error // why a device does not listen, if one does not

	ctx      context.Context // of the handshakes; ends with Close
	cancel   context.CancelFunc
	closing  atomic.Bool
	done     chan struct{}
	draining atomic.Bool
	drained  chan struct{} // closed when nobody is on the way to ready any more
	ready    chan net.Conn
	errs     chan error
	deadline deadline

	slots    chan struct{} // one element for each half-open connection
	stayed   chan struct{} // tells that one which was to give way goes on
	half     halfOpenSet
	workers  sync.WaitGroup
	counters counters
}

var _ net.Listener = (*Listener)(nil)

// Accept waits for the next connection and returns it: a *net.TCPConn or an *rdmanet.Conn. The failure of a
// client never is an error of Accept. Clients come in the order in which they were made out, not always that in which they
// connected. After Close the error matches net.ErrClosed, after the deadline os.ErrDeadlineExceeded.
func (l *Listener) Accept() (net.Conn, error) {
	if !l.ok() {
		return nil, syscall.EINVAL
	}
	if l.direct {
		c, err := l.tcp.AcceptTCP()
		if err != nil {
			return nil, err
		}
		l.counters.plain.Add(1)
		setKeepAlive(c, l.config.KeepAlive, l.config.KeepAliveConfig)
		reason := ReasonPolicy
		if l.policy != OffloadNever {
			reason = ReasonNoDevice
		}
		return remember(c, plainInfo(reason, l.whyNone)), nil
	}
	passed := l.deadline.passed()
	switch {
	case isClosed(l.done):
		return nil, l.fail("accept", net.ErrClosed)
	case isClosed(passed):
		return nil, l.fail("accept", os.ErrDeadlineExceeded)
	}
	select {
	case c := <-l.ready:
		return c, nil
	case err := <-l.errs:
		return nil, err
	case <-l.drained:
		return l.last()
	case <-passed:
		return nil, l.fail("accept", os.ErrDeadlineExceeded)
	case <-l.done:
		return nil, l.fail("accept", net.ErrClosed)
	}
}

// Close ends the listener and the connections that Accept has not returned, and waits for what runs on its behalf.
// A second call returns net.ErrClosed in a *net.OpError.
func (l *Listener) Close() error {
	if !l.ok() {
		return syscall.EINVAL
	}
	if !l.closing.CompareAndSwap(false, true) {
		return l.fail("close", net.ErrClosed)
	}
	close(l.done)
	l.cancel()
	var err error
	if l.draining.CompareAndSwap(false, true) {
		err = l.stopListening()
	}
	l.half.wake()
	l.workers.Wait()
	for {
		select {
		case c := <-l.ready:
			reset(c)
		default:
			return err
		}
	}
}

// Addr returns the address as a *net.TCPAddr, also after Close.
func (l *Listener) Addr() net.Addr {
	if !l.ok() {
		return nil
	}
	return l.tcp.Addr()
}

// SetDeadline sets the point in time at which Accept, also one under way, fails with os.ErrDeadlineExceeded. The zero time means never.
func (l *Listener) SetDeadline(t time.Time) error {
	switch {
	case !l.ok():
		return syscall.EINVAL
	case l.direct:
		return l.tcp.SetDeadline(t)
	case isClosed(l.done):
		return l.fail("set", net.ErrClosed)
	}
	l.deadline.set(t)
	return nil
}

func (l *Listener) ok() bool { return l != nil && l.tcp != nil }

func (l *Listener) fail(op string, err error) error {
	return &net.OpError{Op: op, Net: l.network, Addr: l.tcp.Addr(), Err: err}
}

// reset closes a connection that nobody has seen, as the kernel does with those in the backlog of a socket that is closed.
func reset(c net.Conn) {
	if c, ok := c.(interface{ SetLinger(int) error }); ok {
		_ = c.SetLinger(0)
	}
	_ = c.Close()
}
