package iwarp

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/rdmanet/iwarp/internal/netaddr"
	"github.com/rdmanet/iwarp/internal/statpage"
	"github.com/rdmanet/iwarp/rdmanet"
	"github.com/rdmanet/iwarp/transport"
)

// Dial connects to the address on the network as net.Dial does, by the policy in the environment
// variable IWARP_OFFLOAD, or OffloadAuto. Networks other than "tcp", "tcp4" and "tcp6" go to
// package net.
func Dial(network, address string) (net.Conn, error) { return zeroDialer.Dial(network, address) }

var zeroDialer Dialer

// DialTimeout acts like Dial with a limit on the time it takes, name resolution and fallback
// included.
func DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	d := Dialer{Timeout: timeout}
	return d.Dial(network, address)
}

// DialContext acts like Dial with a context, as Dialer.DialContext does.
func DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return zeroDialer.DialContext(ctx, network, address)
}

// ContextDialer connects to the TCP address. It has the signature that grpc.WithContextDialer and
// others expect.
func ContextDialer(ctx context.Context, address string) (net.Conn, error) {
	return DialContext(ctx, "tcp", address)
}

// A Dialer connects to an address. Its zero value is what Dial uses. The fields up to
// ControlContext are those of net.Dialer with the same meaning; they apply to the kernel
// connections that carry plain TCP and iWARP in software, and as far as possible to those of
// devices: what does not is said here and in Info.Ignored. The kernel connections are never MPTCP.
//
// It is safe to call the methods from several goroutines at once, but not to change a field
// meanwhile.
type Dialer struct {
	Timeout         time.Duration       // limit of the whole dial, fallback included; 0 means none
	Deadline        time.Time           // the same as a point in time
	LocalAddr       net.Addr            // address to dial from. With a port that PortSpace holds, the reservation's socket connects
	DualStack       bool                // Deprecated: has no effect, as in net.Dialer
	FallbackDelay   time.Duration       // head start of IPv6 over IPv4 (RFC 6555); 0 means 300 ms, negative means no race
	KeepAlive       time.Duration       // interval of TCP keep-alive; 0 means 15 s, negative means none
	KeepAliveConfig net.KeepAliveConfig // takes precedence over KeepAlive if its Enable is true; devices use only Idle
	Resolver        *net.Resolver       // nil means net.DefaultResolver
	Cancel          <-chan struct{}     // Deprecated: use DialContext

	// Control is called on the socket before it is bound or connected; if both are set, ControlContext
	// is called instead. A connection through a device has no socket for it; where software asks the
	// peer for the port of a device, it is called on the socket for that.
	Control        func(network, address string, c syscall.RawConn) error
	ControlContext func(ctx context.Context, network, address string, c syscall.RawConn) error

	Offload    Offload               // the policy; the zero value can be overruled by the environment variable IWARP_OFFLOAD
	Transports []transport.Transport // in order of preference; nil means transport.Registered, hardware first
	PortSpace  *PortSpace            // nil means DefaultPortSpace

	// Policy, if not nil, returns the policy for an address, which is as it was given to Dial, such as
	// "db.internal:5432". OffloadAuto means that Offload applies. It may be called from several
	// goroutines at once, and not for networks other than "tcp", "tcp4" and "tcp6".
	Policy func(address string) Offload

	// HandshakeTimeout limits the wait for the peer's answer to an iWARP connection request. 0 or less
	// means 10 s, which is also the limit of the soft transport itself. Where a fallback to plain TCP
	// may follow it means less: 3 s through a device; in software, unless the peer has spoken iWARP
	// before, 100 ms and ten round trips, as just measured on the TCP connection, or two round trips
	// and 400 ms if that is less, from when the peer's kernel has confirmed the request. The wait then
	// leaves as much of the dial's time to what may follow; a peer that has spoken iWARP before gets
	// all but what a plain connection needs. Where the time is not enough for an answer and a plain
	// connection, the peer is not asked. Where a server redirects, each request has a limit of its
	// own. For as long a dial with OffloadRequire asks a peer again that has spoken iWARP before and
	// hangs up, as one does that has too many clients at once; or for half of the dial's time if that
	// is less and it dials a name with several addresses.
	HandshakeTimeout time.Duration

	// ReadBuffer is how many bytes at most the peer of an iWARP connection may send ahead of the calls
	// of Read; a connection begins with 512 KiB, or 31 KiB through a device. 0 or less means 4 MiB, or
	// 256 KiB through a device; other values are brought into the range from 4 KiB to 512 MiB.
	ReadBuffer int
	// ReadBudget bounds their sum for all connections that share it, except those through devices. nil
	// means the budget of the process: a quarter of the memory that it may have, by GOMEMLIMIT, its
	// cgroup or the machine.
	ReadBudget *rdmanet.Budget

	// Logger is told of the connections, as SetLogger says. nil means what SetLogger has set.
	Logger *slog.Logger
}

const (
	defaultDialHandshakeTimeout = 10 * time.Second
	// Room for a round trip and a lost segment.
	defaultFallbackTimeout = 3 * time.Second
)

// Dial acts like DialContext with the background context.
func (d *Dialer) Dial(network, address string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, address)
}

// DialContext connects to the address on the network. The context, which must not be nil, ends the
// attempt but not the connection. The result is a *net.TCPConn or an *rdmanet.Conn; Describe tells
// more.
//
// A TCP connection that fails is an error of package net, and no fallback is tried, as it would
// fail in the same way. Where a name has several addresses, and the one that is connected does not
// speak iWARP, the others are asked, too; where plain TCP is allowed, those about which nothing is
// known only as long as the dial has not waited for one that was silent. Devices of several
// transports are asked independently of each other.
//
// That a peer does not speak iWARP is remembered for a minute if it has sent something else, for
// the benefit of later dials with OffloadPrefer. Silence, or a connection that ends without a byte,
// may be temporary trouble: it is remembered for a second or ten times the wait that it took. Each
// time either is confirmed, it is remembered twice as long, up to an hour; once an iWARP request
// has come to a Listener of the process from the same host, the peer is asked again. Silence is
// remembered for no longer than a minute if HandshakeTimeout or the time left for the dial gave the
// peer less time than an unknown one has otherwise, and not at all if that was less than 20 ms or
// four round trips, or 100 ms through a device.
//
// For a peer that spoke iWARP within the last hour, silence counts for nothing until it has gone on
// for 10 s, and something else is remembered for a second, unless the next attempt gets it, too.
// The port that a server with an iWARP device redirects to is remembered for a minute.
//
// A peer about which nothing is known is asked by one dial at a time. Other dials to it wait for
// the outcome, but no longer than 10 ms and two round trips, 80 ms at most, or 100 ms where a
// device asks; then they take plain TCP, with ReasonAsking.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if ctx == nil {
		panic("nil context")
	}
	if !netaddr.IsTCP(network) {
		return d.netDialer().DialContext(ctx, network, address)
	}
	c, err := d.dial(ctx, network, address)
	if err != nil {
		countFailed(statpage.Dialed, err)
	}
	if log := loggerOr(d.Logger); log != nil {
		d.logDial(ctx, log, address, c, err)
	}
	return c, err
}

func (d *Dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	policy, rules, err := d.choose(network, address)
	switch {
	case err != nil:
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	case rules != nil:
		return d.byRules(ctx, rules, network, address)
	}
	return d.by(ctx, policy, network, address, nil)
}

// by dials by a policy. The remotes are the addresses of a name, nil if they are not known.
func (d *Dialer) by(ctx context.Context, policy Offload, network, address string, remotes []netip.AddrPort) (net.Conn, error) {
	began := now()
	if policy == OffloadNever || !isTCPAddr(d.LocalAddr) { // which is an error of package net
		return d.plain(ctx, network, address, remotes, began, ReasonPolicy, nil)
	}
	devices, kernel := split(d.Transports)
	if policy == OffloadDevice {
		policy, kernel = OffloadRequire, nil
	}
	if len(devices) == 0 {
		switch {
		case policy == OffloadAuto:
			return d.plain(ctx, network, address, remotes, began, ReasonNoDevice, nil)
		case policy == OffloadPrefer && kernel != nil:
			if why, ok := mute(kernel, address, began); ok {
				return d.plain(ctx, network, address, remotes, began, why.Reason, why.Err)
			}
		}
	}
	a := dialing{
		Dialer: d, origin: origin{began: began}, network: network, address: address, remotes: remotes, policy: policy, software: kernel,
	}
	ctx, cancel := d.limit(ctx)
	defer cancel()
	if len(devices) == 0 && kernel != nil {
		return a.viaKernel(ctx, kernel)
	}
	c, why, err := a.viaDevice(ctx, devices)
	switch {
	case c != nil || err != nil:
		return c, err
	case policy == OffloadAuto:
		return d.plain(ctx, network, address, a.remotes, began, why.Reason, why.Err)
	case kernel != nil:
		return a.viaKernel(ctx, kernel)
	case policy == OffloadRequire:
		if unknown := new(net.DNSError); a.tried == nil && errors.As(why.Err, &unknown) {
			return nil, a.fail(nil, unknown)
		}
		return nil, a.fail(a.tried, &why)
	}
	return d.plain(ctx, network, address, a.remotes, began, why.Reason, why.Err)
}

// dialing is one call of DialContext.
type dialing struct {
	*Dialer
	origin
	network, address string
	remotes          []netip.AddrPort // of a name, once resolved, in the form of netaddr.Resolve
	policy           Offload
	tried            net.Addr        // the last one that a device tried
	ahead            int             // addresses that are still to be tried
	software         kernelTransport // nil if there is none
	waited           waitLimit       // of the latest attempt
	first            kernelDial      // to the first address that is dialed through the kernel
}

// plain dials TCP and hands out the very connection.
func (d *Dialer) plain(
	ctx context.Context, network, address string, remotes []netip.AddrPort, began time.Time, reason Reason, cause error,
) (net.Conn, error) {
	c, err := d.toAny(ctx, network, address, remotes)
	if err != nil {
		return nil, err
	}
	return rememberTCP(c, plainInfo(reason, cause), origin{began: began}), nil
}

// kernel dials a TCP connection of the kernel.
func (a *dialing) kernel(ctx context.Context, address string) (*net.TCPConn, error) {
	return a.kernelOf(ctx, a.Dialer, address)
}

func (a *dialing) kernelOf(ctx context.Context, d *Dialer, address string) (*net.TCPConn, error) {
	if address == a.address {
		return d.toAny(ctx, a.network, address, a.remotes)
	}
	return d.kernel(ctx, a.network, address)
}

func (d *Dialer) kernel(ctx context.Context, network, address string) (*net.TCPConn, error) {
	if hasPort(d.LocalAddr) { // otherwise it belongs to no reservation
		control := func(network, address string, c syscall.RawConn) error { return d.control(ctx, network, address, c) }
		r, err := d.PortSpace.or().engine.ToDial(netaddr.Narrow(network, address), d.LocalAddr, control)
		if err != nil {
			return nil, &net.OpError{Op: "dial", Net: network, Source: d.LocalAddr, Err: err}
		}
		if r != nil {
			return d.fromReserved(ctx, r, network, address)
		}
	}
	n := d.dialer()
	if n == plainNet && ctx == context.Background() && network == "tcp" && !new(net.Dialer).MultipathTCP() {
		if to, err := netip.ParseAddrPort(address); err == nil && isOrdinary(to.Addr()) {
			return net.DialTCP(network, nil, netaddr.TCP(to))
		}
	}
	c, err := n.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// isOrdinary reports whether package net takes no more than the address for what the text says,
// so that there is nothing to resolve. Without a context that can end, or have something traced,
// connecting to such an address is all that a dial is, and takes less than it.
func isOrdinary(a netip.Addr) bool { return a.Zone() == "" && !a.Is4In6() && !a.IsUnspecified() }

// fail makes the error of a dial that has got as far as the address.
func (a *dialing) fail(remote net.Addr, err error) error {
	return &net.OpError{Op: "dial", Net: a.network, Source: a.LocalAddr, Addr: remote, Err: err}
}

// control calls the user's function for a socket, if there is one.
func (d *Dialer) control(ctx context.Context, network, address string, c syscall.RawConn) error {
	switch {
	case d.ControlContext != nil:
		return d.ControlContext(ctx, network, address, c)
	case d.Control != nil:
		return d.Control(network, address, c)
	}
	return nil
}

// plainNet is what all Dialers dial with that have nothing to say about it.
var plainNet = new(Dialer).netDialer()

// dialer returns a net.Dialer with the fields of d, which must not be changed.
func (d *Dialer) dialer() *net.Dialer {
	old := d.DualStack || d.Cancel != nil
	if !old && d.Timeout == 0 && d.Deadline.IsZero() && d.LocalAddr == nil && d.FallbackDelay == 0 && d.KeepAlive == 0 &&
		!d.KeepAliveConfig.Enable && d.Resolver == nil && d.Control == nil && d.ControlContext == nil {
		return plainNet
	}
	return d.netDialer()
}

func (d *Dialer) netDialer() *net.Dialer {
	n := &net.Dialer{
		Timeout: d.Timeout, Deadline: d.Deadline, LocalAddr: d.LocalAddr,
		FallbackDelay: d.FallbackDelay, KeepAlive: d.KeepAlive, KeepAliveConfig: d.KeepAliveConfig,
		Resolver: d.Resolver, Control: d.Control, ControlContext: d.ControlContext,
	}
	//lint:ignore SA1019 a Dialer has all that net.Dialer has
	n.DualStack, n.Cancel = d.DualStack, d.Cancel
	n.SetMultipathTCP(false)
	return n
}
