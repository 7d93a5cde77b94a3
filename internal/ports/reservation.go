package ports

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"

	"github.com/rdmanet/iwarp/internal/bound"
	"github.com/rdmanet/iwarp/internal/netaddr"
	"github.com/rdmanet/iwarp/internal/neterr"
	"github.com/rdmanet/iwarp/internal/statpage"
)

// A Reservation holds a port until it is released, or until its socket becomes a listener or a
// connection, to which the port then belongs. Connections of devices share it by an Endpoint each.
type Reservation struct {
	network string
	addr    net.TCPAddr
	owner   string // for Reservations
	at      bound.Binding

	mu       sync.Mutex         // before that of a Space or Set
	onGone   []func()           // called with mu held once the port is given back, or left to others
	socket   *bound.Socket      // nil while lent, and once it is a listener or a connection
	listens  bool               // the socket already listens, as an adopted one may
	shared   bool               // another process may have the socket as well
	foreign  bool               // one has it that may not be seen from here, such as systemd
	cancel   context.CancelFunc // ends the dial that the socket is lent to
	released bool               // by Release
	spent    bool               // the port goes with the last endpoint
	kept     bool               // for the next one
	became   State              // what the socket was made into, if socket is nil
	lives    func() bool        // whether that is still open

	endpoints int                            // connections of devices
	remotes   map[netip.AddrPort]func() bool // where those that were dialed go; see Endpoint.Keep
	admitted  int                            // calls of admit whose shut is still to come
	lost      bool                           // somebody listens on the port
	device    bool                           // a device listens on the port

	page *statpage.Port // what others see of it; nil before it has a port
}

// Addr returns the address reserved.
func (r *Reservation) Addr() net.Addr {
	a := r.addr
	return &a
}

// AddrPort is Addr in the form of package netip.
func (r *Reservation) AddrPort() netip.AddrPort { return netaddr.Unmap(r.addr.AddrPort()) }

// Reaches reports whether a socket there gets what comes to a.
func (r *Reservation) Reaches(a netip.Addr) bool { return r.at.Reaches(a) }

// Listen makes a listener of the very socket that holds the port. again says that the port may be
// one that a listener has left to the connections of devices.
func (r *Reservation) Listen(control bound.Control, again bool) (l *net.TCPListener, err error) {
	s, err := r.lend(nil, again)
	if err != nil {
		return nil, r.fail("listen", err)
	}
	defer func() {
		var lost bound.LostError
		if errors.As(err, &lost) {
			r.forfeit()
		}
		r.giveBack(s, l != nil, Listening, func() func() bool { return openness(l) })
	}()
	l, err = s.Listen(control)
	if err != nil {
		return nil, r.fail("listen", conflict(r.AddrPort(), r.at, err))
	}
	return l, nil
}

// forfeit makes a lent socket be given up when it comes back.
func (r *Reservation) forfeit() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.released = true
}

// File returns a copy of the socket that holds the port, for another process.
func (r *Reservation) File() (*os.File, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.socket == nil {
		return nil, r.fail("file", net.ErrClosed)
	}
	f, err := r.socket.File()
	if err != nil {
		return nil, r.fail("file", neterr.Bare(err))
	}
	r.shared = true
	return f, nil
}

// ListenerFile returns a copy of the socket of l, which was made of the reservation's, for another
// process.
func (r *Reservation) ListenerFile(l *net.TCPListener) (*os.File, error) {
	f, err := bound.ListenerFile(l)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shared = true
	return f, nil
}

// IsShared reports whether another process may have the socket as well.
func (r *Reservation) IsShared() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.shared
}

// Regain reports whether no other process is seen to have the socket of l, which was made of the
// reservation's. Then nothing makes calls on l block any more.
func (r *Reservation) Regain(l *net.TCPListener) bool {
	r.mu.Lock()
	shared, foreign := r.shared, r.foreign
	r.mu.Unlock()
	if !shared {
		return true
	}
	found, complete, err := bound.Elsewhere(l)
	return err == nil && !found && (complete || !foreign) && bound.Unblock(l) == nil
}

// Release gives the port back, even during a dial.
func (r *Reservation) Release() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.released || r.spent || r.socket == nil && r.cancel == nil {
		return r.fail("release", net.ErrClosed)
	}
	r.released = true
	if r.cancel != nil {
		r.cancel()
		return nil
	}
	return r.settle()
}

func (r *Reservation) fail(op string, err error) error {
	network := r.network
	if network == "" {
		network = "tcp"
	}
	return &net.OpError{Op: op, Net: network, Addr: r.Addr(), Err: err}
}

// settle closes the socket if nobody needs the port any more. Its caller holds r.mu.
func (r *Reservation) settle() error {
	if r.endpoints > 0 || r.kept || !r.released && !r.spent || r.cancel != nil {
		return nil
	}
	if r.socket == nil && r.lives != nil && r.lives() {
		return nil // it is up to the listener
	}
	for _, tell := range r.onGone {
		tell()
	}
	r.withdraw()
	s := r.socket
	r.socket = nil
	if s == nil {
		return nil
	}
	return s.Close()
}

// lend lets one user work with the socket, which cancel makes that user give back early. again says
// that the user may listen on a port that is spent.
func (r *Reservation) lend(cancel context.CancelFunc, again bool) (*bound.Socket, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.socket
	if s == nil || r.released || r.spent && !again {
		return nil, net.ErrClosed
	}
	if r.endpoints > 0 && !again {
		return nil, os.NewSyscallError("bind", syscall.EADDRINUSE)
	}
	if cancel == nil {
		cancel = func() {}
	}
	r.socket, r.cancel = nil, cancel
	return s, nil
}

// giveBack ends what lend began. After a success the socket belongs to something else, which lives
// watches without keeping it alive.
func (r *Reservation) giveBack(s *bound.Socket, used bool, became State, lives func() func() bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cancel = nil
	if used {
		r.became, r.lives = became, lives()
		r.publish()
		return
	}
	r.socket, r.listens = s, s.Listens()
	r.publish()
	_ = r.settle()
}

// whenGone has f called, with r.mu held, when the port is given back or left to its listener.
func (r *Reservation) whenGone(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.onGone = append(r.onGone, f)
}

// usable reports whether the socket is there to be made into something. A port that a listener has
// left to the connections of devices can be listened on again.
func (r *Reservation) usable(listen bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.socket == nil || r.released {
		return false
	}
	return r.endpoints == 0 && !r.spent || listen && r.became == Listening
}

// Options are what a dial wants of the socket.
type Options = bound.Options

// Connect makes a connection of the very socket that holds the port, to the first of the remotes
// that answers. If none does, it returns the error and the address of the first.
func (r *Reservation) Connect(ctx context.Context, remotes []netip.AddrPort, o Options) (c *net.TCPConn, remote netip.AddrPort, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := r.lend(cancel, false)
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	defer func() { r.giveBack(s, c != nil, Connected, func() func() bool { return openness(c) }) }()

	remotes = slices.DeleteFunc(remotes, func(a netip.AddrPort) bool { return !r.at.Reaches(a.Addr()) })
	err = &net.AddrError{Err: "no suitable address found", Addr: r.addr.String()}
	for i, to := range remotes {
		conn, cerr := connectWithin(ctx, s, to, o, len(remotes)-i)
		if cerr == nil {
			return conn, to, nil
		}
		if i == 0 {
			remote, err = to, cerr
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, remote, err
}

// connectWithin connects s to the first of the addresses that are left, and leaves the others their
// share of the time.
func connectWithin(ctx context.Context, s *bound.Socket, remote netip.AddrPort, o Options, left int) (*net.TCPConn, error) {
	ctx, cancel := netaddr.Share(ctx, left)
	defer cancel()
	return s.Connect(ctx, netaddr.TCP(remote), o)
}
