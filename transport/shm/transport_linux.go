package shm

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp/internal/netns"
	"github.com/rdmanet/iwarp/internal/sockdiag"
	"github.com/rdmanet/iwarp/transport"
)

// A Transport makes connections through shared memory. Its methods may be called by several
// goroutines at once.
type Transport struct {
	cfg    Config
	memory budget
	room   waitingRoom
	serves time.Duration // how long a listener keeps a link
}

var _ transport.Transport = (*Transport)(nil)

// New returns a Transport with the given configuration, which is copied. A nil c means the
// defaults.
func New(c *Config) *Transport {
	t := &Transport{cfg: c.withDefaults(), serves: linkLonger}
	t.room.keeps, t.room.age = linkTime, linkAge
	t.memory.limit = t.cfg.MaxMemory
	return t
}

// Name returns "shm".
func (t *Transport) Name() string { return transportName }

// Offloads returns true: the kernel's TCP does not carry the connection.
func (t *Transport) Offloads() bool { return true }

// Devices returns the one device that is always there.
func (t *Transport) Devices() ([]transport.Device, error) {
	return []transport.Device{device(nil)}, nil
}

func device(addrs []netip.Addr) transport.Device {
	return transport.Device{Name: deviceName, Transport: transportName, Addrs: addrs, OwnPorts: true}
}

// Route returns the device if somebody on this host listens at remote for shared memory, and the
// address that a connection would come from. Where nobody does, or where whoever does cannot be
// trusted, the error matches transport.ErrNoRoute.
func (t *Transport) Route(ctx context.Context, local, remote netip.AddrPort) (transport.Device, error) {
	p := site{netns.Current(), destination(remote)}
	if t.room.has(p) {
		source, err := t.sourceOf(local.Addr(), p)
		if err != nil {
			return transport.Device{}, err
		}
		return device([]netip.Addr{source}), nil
	}
	m, err := t.meet(ctx, local.Addr(), p)
	if err != nil {
		return transport.Device{}, err
	}
	dev := device([]netip.Addr{m.source})
	t.room.put(p, m) // from where another dial may take it
	return dev, nil
}

// destination is where the kernel connects to for an address without an IP.
func destination(a netip.AddrPort) netip.AddrPort {
	a = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
	switch a.Addr() {
	case netip.IPv4Unspecified():
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), a.Port())
	case netip.IPv6Unspecified():
		return netip.AddrPortFrom(netip.IPv6Loopback(), a.Port())
	}
	return a
}

// Dial implements transport.Transport. A local port that is given must be held by the caller, for
// the life of the connection.
func (t *Transport) Dial(ctx context.Context, local, remote netip.AddrPort, o *transport.Options) (transport.Connector, error) {
	p := site{netns.Current(), destination(remote)}
	m := t.room.take(p)
	if m == nil {
		var err error
		if m, err = t.meet(ctx, local.Addr(), p); err != nil {
			return nil, err
		}
	}
	source, err := t.sourceOf(local.Addr(), p)
	if err != nil {
		m.close()
		return nil, err
	}
	q := newEnd(t, o)
	if m.link != nil {
		q.take(m.link)
	} else if err := q.use(m.c); err != nil {
		hangUp(m.c)
		return nil, err
	}
	q.site, q.keeps = p, true
	q.local, q.remote = netip.AddrPortFrom(source, local.Port()), p.at
	if local.Port() == 0 {
		if err := t.room.spare(q.holdPort); err != nil {
			_ = q.Close()
			return nil, err
		}
	}
	return &connector{q: q, scope: scopeOf(p.at.Addr())}, nil
}

// holdPort takes a port of the kernel for as long as the queue pair lives.
func (q *queuePair) holdPort() error {
	family, sa := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Addr: q.local.Addr().As16(), ZoneId: scopeOf(q.local.Addr())})
	if q.local.Addr().Is4() {
		family, sa = unix.AF_INET, &unix.SockaddrInet4{Addr: q.local.Addr().As4()}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	if err = unix.Bind(fd, sa); err == nil {
		sa, err = unix.Getsockname(fd)
	}
	if err != nil {
		_ = unix.Close(fd)
		return os.NewSyscallError("bind", err)
	}
	port := 0
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		port = sa.Port
	case *unix.SockaddrInet6:
		port = sa.Port
	}
	q.local = netip.AddrPortFrom(q.local.Addr(), uint16(port))
	q.holdsPort = true
	q.OnGone(func(bool) { _ = unix.Close(fd) })
	return nil
}

// Listen implements transport.Transport. Where the port has a TCP listener of this process that is
// the service's, as package iwarp makes it first; one of another process has the port, and the
// error matches syscall.EADDRINUSE. Otherwise one is made, which takes no connection; a port that
// cannot be had for that is an error only if any would do. Where another process has the meeting
// place of the service, dials do not take it for the service, and the listener gets the place as
// soon as it is free.
func (t *Transport) Listen(ctx context.Context, local netip.AddrPort, o *transport.Options) (transport.Listener, error) {
	local = netip.AddrPortFrom(local.Addr().Unmap(), local.Port())
	only6 := o != nil && o.OnlyIPv6
	if local.Port() != 0 {
		_, err := listenerAt(local)
		if err == nil {
			err = isOurs(local.Port())
		}
		if isLack(err) || errors.Is(err, syscall.EADDRINUSE) {
			return nil, err
		}
		if !errors.Is(err, errNoListener) {
			return t.listen(local, only6, nil, o)
		}
	}
	port, err := holdListener(ctx, local, only6)
	if err != nil && local.Port() == 0 {
		return nil, err
	}
	if port != nil {
		local = netip.AddrPortFrom(local.Addr(), port.Addr().(*net.TCPAddr).AddrPort().Port())
	}
	return t.listen(local, only6, port, o)
}

// isOurs returns an error if the listeners on a TCP port are known to be of other processes. Where
// several share the port one is enough.
func isOurs(port uint16) error {
	list, err := sockdiag.QueryListening(port)
	if err != nil || len(list) == 0 {
		return nil
	}
	for _, s := range list {
		if yes, known, err := owners.holds(int32(os.Getpid()), s.Inode); err != nil || yes || !known {
			return err
		}
	}
	return os.NewSyscallError("listen", syscall.EADDRINUSE)
}

// holdListener makes a TCP listener.
func holdListener(ctx context.Context, local netip.AddrPort, only6 bool) (*net.TCPListener, error) {
	network := "tcp"
	switch {
	case local.Addr().Is4():
		network = "tcp4"
	case only6:
		network = "tcp6"
	}
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(ctx, network, local.String())
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener), nil
}
