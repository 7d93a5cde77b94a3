package iwarp

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"syscall"
)

// A Reservation holds a port until it is released, or until its socket becomes a listener or a connection, to
// which the port then belongs. The methods may be called from several goroutines at once.
type Reservation struct {
	space   *PortSpace
	network string
	addr    net.TCPAddr

	mu       sync.Mutex
	socket   *socket            // nil while in use and once spent
	cancel   context.CancelFunc // ends the dial that uses the socket
	released bool
}

// Addr returns the address reserved, with the port that was chosen for port 0. It is a *net.TCPAddr.
func (r *Reservation) Addr() net.Addr {
	a := r.addr
	return &a
}

func (r *Reservation) addrPort() netip.AddrPort { return unmap(r.addr.AddrPort()) }

// Listen makes a listener of the very socket that holds the port. After an error the port is still held. A
// reservation that was used up or released gives net.ErrClosed.
func (r *Reservation) Listen() (*net.TCPListener, error) { return r.listen(nil) }

func (r *Reservation) listen(control func(network, address string, c syscall.RawConn) error) (*net.TCPListener, error) {
	s, err := r.take(nil)
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: r.network, Addr: r.Addr(), Err: err}
	}
	l, err := s.listen(control)
	r.put(s, err)
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: r.network, Addr: r.Addr(), Err: err}
	}
	return l, nil
}

// DialContext connects the very socket that holds the port, with the errors that a net.Dialer with this LocalAddr
// gives. After an error the port is still held. On systems other than Linux the error matches
// errors.ErrUnsupported. A nil context panics.
func (r *Reservation) DialContext(ctx context.Context, network, address string) (*net.TCPConn, error) {
	if ctx == nil {
		panic("nil context")
	}
	if !isTCP(network) {
		return nil, &net.OpError{Op: "dial", Net: network, Err: net.UnknownNetworkError(network)}
	}
	return r.dial(ctx, &Dialer{LocalAddr: r.Addr()}, network, address)
}

// Release gives the port back, also from under a dial under way. It returns net.ErrClosed if the reservation
// was released before, or used up.
func (r *Reservation) Release() error {
	r.space.remove(r)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.released || r.socket == nil && r.cancel == nil:
		return &net.OpError{Op: "release", Net: r.network, Addr: r.Addr(), Err: net.ErrClosed}
	case r.socket == nil:
		r.cancel()
		r.released = true
		return nil
	}
	r.released = true
	err := r.socket.Close()
	r.socket = nil
	return err
}

// take lends the socket to one user, whom cancel makes give it back early.
func (r *Reservation) take(cancel context.CancelFunc) (*socket, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.socket
	if s == nil {
		return nil, net.ErrClosed
	}
	r.socket, r.cancel = nil, cancel
	r.space.remove(r)
	return s, nil
}

// put ends what take began. After a success the socket belongs to somebody else.
func (r *Reservation) put(s *socket, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cancel = nil
	switch {
	case err == nil:
	case r.released:
		_ = s.Close()
	default:
		r.socket = s
		r.space.add(r)
	}
}

// dial does what a net.Dialer does for TCP, with the socket of the reservation.
func (r *Reservation) dial(ctx context.Context, d *Dialer, network, address string) (_ *net.TCPConn, err error) {
	fail := func(source, addr net.Addr, err error) (*net.TCPConn, error) {
		return nil, &net.OpError{Op: "dial", Net: network, Source: source, Addr: addr, Err: err}
	}
	ctx, cancel := d.limit(ctx)
	defer cancel()
	remotes, err := lookup(ctx, d.Resolver, network, address)
	if err != nil {
		return fail(nil, nil, err)
	}
	s, err := r.take(cancel)
	if err != nil {
		return fail(d.LocalAddr, nil, err)
	}
	defer func() { r.put(s, err) }()

	err = &net.OpError{Op: "dial", Net: network, Err: &net.AddrError{Err: "no suitable address found", Addr: r.addr.String()}}
	tried := false
	for _, remote := range remotes {
		if !s.reaches(remote.Addr()) {
			continue
		}
		raddr := netAddr(remote)
		c, cerr := s.connect(ctx, raddr, d)
		if cerr == nil {
			setKeepAlive(c, d.KeepAlive, d.KeepAliveConfig)
			return c, nil
		}
		if !tried {
			tried = true
			_, err = fail(d.LocalAddr, raddr, cerr)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, err
}
