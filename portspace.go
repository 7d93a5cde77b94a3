package iwarp

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"

	"github.com/rdmanet/iwarp/internal/netaddr"
	"github.com/rdmanet/iwarp/internal/ports"
	"github.com/rdmanet/iwarp/transport"
)

// A PortSpace holds TCP ports of the host, each by a kernel socket, so that they are taken for
// everybody: for sockets, and for devices that have ports of their own. The zero value is ready for
// use. The methods may be called from several goroutines at once, but Control must not be changed
// meanwhile; it may be called from several, too.
//
// A nil *PortSpace stands for DefaultPortSpace.
//
// Listen, and a Dialer with such a LocalAddr, take over a reservation of their PortSpace where it
// has exactly the address asked for: in the network namespace of the caller, with the interface
// that Control binds to, and for the families that are wanted. Everything else is bound by the
// kernel socket that listens or connects.
type PortSpace struct {
	// Control, if not nil, is called on each reserving socket before it is bound, with "tcp4" or
	// "tcp6". Making one reservation may take several sockets. Dials from the same port wait for it,
	// as long as their contexts allow; it may itself use other ports of the PortSpace.
	Control func(network, address string, c syscall.RawConn) error

	engine ports.Space
}

// DefaultPortSpace is the PortSpace of Dialers and ListenConfigs that name none.
var DefaultPortSpace = &PortSpace{}

func (ps *PortSpace) or() *PortSpace {
	if ps == nil {
		return DefaultPortSpace
	}
	return ps
}

// Reserve takes the port of address for the process. The network is "tcp", "tcp4" or "tcp6", and
// the address has the form that Listen takes: an empty host is every address of the host, for "tcp"
// of both families; port 0 is any free port, which Addr returns. A port that is in use is an error
// that matches syscall.EADDRINUSE, a foreign address syscall.EADDRNOTAVAIL, a port that needs a
// privilege syscall.EACCES.
//
// On Linux nobody can connect to the port until Listen, or take it, not even with SO_REUSEADDR, and
// an earlier listener's connections in TIME_WAIT are not in the way. Elsewhere the reserving socket
// listens from the start, and clients wait in its backlog.
func (ps *PortSpace) Reserve(ctx context.Context, network, address string) (*Reservation, error) {
	ps = ps.or()
	r, err := ps.engine.Reserve(ctx, network, address, ps.Control)
	return (*Reservation)(r), logConflict(nil, public(err))
}

// ReserveEach takes the port on each of the addresses, by a socket for each, or on none. Without
// addresses it takes it on all that the host's interfaces have now. Port 0 is any port that is free
// on all of them: it is chosen on the first address and tried on the others, and after a conflict
// another one is chosen, up to 16 times. The error holds a *ConflictError with the address that
// refused last and the number of tries.
//
// One reservation of a wildcard address, as by Reserve(ctx, "tcp", ":0"), does more in one step: it
// also holds for addresses that the host will have later.
func (ps *PortSpace) ReserveEach(ctx context.Context, port uint16, addrs ...netip.Addr) (*PortSet, error) {
	ps = ps.or()
	s, err := ps.engine.ReserveEach(ctx, port, addrs, func() ports.Control { return ps.Control })
	return (*PortSet)(s), logConflict(nil, public(err))
}

// Adopt makes a Reservation of a TCP socket that is bound or listens and came from another process,
// for example by os/exec's ExtraFiles from Reservation.File or Listener.File there. The Reservation
// has a copy of the descriptor; f must still be closed. Its Owner is f's name. Adopted sockets that
// listen take clients from the start; Listen returns what accepts them, and they cannot dial. On
// Windows the error matches errors.ErrUnsupported; on systems other than Linux the socket must
// listen.
func (ps *PortSpace) Adopt(f *os.File) (*Reservation, error) {
	r, err := ps.or().engine.Adopt(f)
	return (*Reservation)(r), err
}

// Inherit adopts the TCP sockets that systemd, or whatever starts the process as systemd does, has
// opened for it (sd_listen_fds(3): LISTEN_FDS, LISTEN_PID and LISTEN_FDNAMES): all of them or,
// after an error, none, so that the call can be repeated. A port's Owner is its name in
// LISTEN_FDNAMES. Anything else, such as sockets of other kinds and TCP connections, is left for
// InheritedFiles. From then on all are closed on exec, and the variables are unset, so that a
// second call returns nothing. Having no sockets is no error. On systems other than Linux the error
// matches errors.ErrUnsupported if there are any.
func (ps *PortSpace) Inherit() ([]*Reservation, error) {
	list, err := ps.or().engine.Inherit()
	return reservations(list), err
}

// InheritedFiles returns what came with the process and Inherit did not adopt: sockets of other
// kinds, and TCP connections. The name of each is that in LISTEN_FDNAMES. They belong to the
// caller; a second call returns nothing.
func (ps *PortSpace) InheritedFiles() []*os.File { return ps.or().engine.InheritedFiles() }

// ServePortMapper answers the queries that kernels with the port mapper daemon iwpmd send before
// they connect through an RNIC, so that they need not wait 10 s for an answer: yes for a port that
// listens in the PortSpace, which stands for itself, and no for others, which makes them connect to
// the port they wanted anyway. The address is where to wait for the queries; "" means UDP port 3935
// of all addresses, which a daemon of the host may already have (syscall.EADDRINUSE).
//
// It runs until the context ends, and then returns nil. Nothing calls it unless you do. Anybody who
// can send datagrams to the port learns from the answers which ports listen, as from a TCP
// connection; an answer is never longer than its query.
func (ps *PortSpace) ServePortMapper(ctx context.Context, address string) error {
	return ps.or().engine.ServePortMapper(ctx, address)
}

// A Reservation holds a port until it is released, or until its socket becomes a listener or a
// connection, to which the port then belongs. Connections of devices with ports of their own share
// a reservation: the port is given back with the last of them. The methods may be called from
// several goroutines at once.
type Reservation ports.Reservation

func (r *Reservation) engine() *ports.Reservation { return (*ports.Reservation)(r) }

func reservations(list []*ports.Reservation) (public []*Reservation) {
	for _, r := range list {
		public = append(public, (*Reservation)(r))
	}
	return public
}

// Addr returns the address reserved, with the port that was chosen for port 0. It is a
// *net.TCPAddr.
func (r *Reservation) Addr() net.Addr { return r.engine().Addr() }

// Listen makes a listener of the very socket that holds the port. After an error the port is still
// held, unless the error says that somebody else listens on it (syscall.EADDRINUSE). A reservation
// that was used up or released gives net.ErrClosed.
func (r *Reservation) Listen() (*net.TCPListener, error) {
	l, err := r.engine().Listen(nil, false)
	return l, public(err)
}

// DialContext connects the very socket that holds the port, with the errors that a net.Dialer with
// this LocalAddr gives. After an error the port is still held. On systems other than Linux the
// error matches errors.ErrUnsupported. A nil context panics.
func (r *Reservation) DialContext(ctx context.Context, network, address string) (*net.TCPConn, error) {
	if ctx == nil {
		panic("nil context")
	}
	if !netaddr.IsTCP(network) {
		return nil, &net.OpError{Op: "dial", Net: network, Err: net.UnknownNetworkError(network)}
	}
	d := &Dialer{LocalAddr: r.Addr()}
	return d.fromReserved(ctx, r.engine(), network, address)
}

// File returns a copy of the socket that holds the port, for another process: it keeps the port
// until it is closed, even after Release, and Adopt makes a Reservation of it there. Once the
// socket listens or is connected, the error is net.ErrClosed: then the listener has a File.
func (r *Reservation) File() (*os.File, error) { return r.engine().File() }

// Release gives the port back, even during a dial. It returns net.ErrClosed if the reservation has
// been released or used up.
func (r *Reservation) Release() error { return r.engine().Release() }

// A PortSet is one port that is held on several addresses of the host by a Reservation each, where
// a wildcard would take too much: for devices that have only some of the addresses. The methods may
// be called from several goroutines at once.
type PortSet ports.Set

func (s *PortSet) engine() *ports.Set { return (*ports.Set)(s) }

// Port returns the port.
func (s *PortSet) Port() uint16 { return s.engine().Port() }

// Members returns the reservations, in the order in which the addresses were taken. A member can be
// listened on, dialed from and released like any Reservation; it leaves the set when its port is
// given back, as when its listener is closed.
func (s *PortSet) Members() []*Reservation { return reservations(s.engine().Members()) }

// Conflicts returns the addresses that the set should have but does not, with the reasons: an error
// that holds a *ConflictError where somebody else has the port.
func (s *PortSet) Conflicts() map[netip.Addr]error {
	list := s.engine().Conflicts()
	for a, err := range list {
		list[a] = public(err)
	}
	return list
}

// Extend takes the port on another address. If somebody else has it there, the error holds a
// *ConflictError and the address is recorded in Conflicts. An address that the set already has,
// even by a wildcard, is no error: its member is returned.
func (s *PortSet) Extend(ctx context.Context, addr netip.Addr) (*Reservation, error) {
	r, err := s.engine().Extend(ctx, addr)
	return (*Reservation)(r), public(err)
}

// Follow keeps a set of all the host's addresses up to date until ctx ends or the set is released:
// it takes the port on addresses that appear, releases it on those that are gone, and where the
// port is in use records that in Conflicts and tries again every second. It returns nil, or what
// ended it early. The error matches errors.ErrUnsupported on systems other than Linux, and for a
// set that was made of a list of addresses.
func (s *PortSet) Follow(ctx context.Context) error { return s.engine().Follow(ctx) }

// Release gives back what the members hold. Members that listen or are connected are their users'
// business. A second call returns net.ErrClosed.
func (s *PortSet) Release() error { return s.engine().Release() }

// fromReserved does what a net.Dialer does for TCP, with the socket of a reservation.
func (d *Dialer) fromReserved(ctx context.Context, r *ports.Reservation, network, address string) (*net.TCPConn, error) {
	fail := func(source, addr net.Addr, err error) (*net.TCPConn, error) {
		return nil, &net.OpError{Op: "dial", Net: network, Source: source, Addr: addr, Err: err}
	}
	ctx, cancel := d.limit(ctx)
	defer cancel()
	remotes, err := netaddr.Lookup(ctx, d.Resolver, network, address)
	if err != nil {
		return fail(nil, nil, err)
	}
	c, remote, err := r.Connect(ctx, remotes, ports.Options{Control: d.control, KeepAlive: d.KeepAlive, KeepAliveConfig: d.KeepAliveConfig})
	var unsuitable *net.AddrError
	switch {
	case err == nil:
		return c, nil
	case errors.As(err, &unsuitable):
		return fail(nil, nil, err)
	case !remote.IsValid():
		return fail(d.LocalAddr, nil, err)
	}
	return fail(d.LocalAddr, netaddr.TCP(remote), err)
}

// hold takes a share in a local port for a connection to remote from a device.
func (ps *PortSpace) hold(ctx context.Context, local, remote netip.AddrPort, dev transport.Device, fresh bool) (*ports.Endpoint, error) {
	ps = ps.or()
	e, err := ps.engine.Hold(ctx, local, remote, dev.Name, dev.Addrs, fresh, ps.Control)
	return e, public(err)
}
