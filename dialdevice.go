package iwarp

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/rdmanet/iwarp/internal/netaddr"
	"github.com/rdmanet/iwarp/internal/neterr"
	"github.com/rdmanet/iwarp/internal/redirect"
	"github.com/rdmanet/iwarp/rdmanet"
	"github.com/rdmanet/iwarp/transport"
)

// viaDevice dials through the first device that reaches the peer and gets an answer. A nil
// connection comes with the reason why there is none, or with an error if the dial is over.
func (a *dialing) viaDevice(ctx context.Context, devices []transport.Transport) (net.Conn, OffloadError, error) {
	why := OffloadError{Reason: ReasonNoDevice}
	usable := devices[:0:0]
	for _, t := range devices {
		switch list, err := t.Devices(); {
		case err != nil:
			why = OffloadError{noDevice(err), err}
		case slices.ContainsFunc(list, func(dev transport.Device) bool { return a.allows(t, dev) }):
			usable = append(usable, t)
		case len(list) > 0:
			why = OffloadError{ReasonNoDevice, errInSoftware}
		}
	}
	if len(usable) == 0 {
		return nil, why, nil
	}
	if err := a.resolve(ctx); err != nil {
		return nil, why, err
	}
	remotes := netaddr.Unmapped(a.remotes)
	if remotes == nil {
		var err error
		if remotes, err = netaddr.Lookup(ctx, a.Resolver, a.network, a.address); err != nil {
			// The kernel path will fail in the same way, with the error that package net gives.
			return nil, OffloadError{ReasonFailed, err}, nil
		}
	}
	return a.throughAny(ctx, usable, remotes)
}

// tryEach dials to one address after the other, through each transport. Where plain TCP is allowed,
// and the dial has waited for one that was silent to a transport, those are left out about which
// nothing is known for that transport.
func (a *dialing) tryEach(ctx context.Context, usable []transport.Transport, remotes []netip.AddrPort) (net.Conn, OffloadError, error) {
	why := OffloadError{Reason: ReasonNoDevice}
	var waited []string // transports
	for i, remote := range remotes {
		for _, t := range usable {
			p := peer{t.Name(), remote}
			if slices.Contains(waited, p.transport) && !peers.speaks(p, time.Now()) {
				continue
			}
			_, known := peers.lookup(p, time.Now()) // which costs no wait
			a.tried, a.ahead = netaddr.TCP(remote), len(remotes)-i-1
			c, err := a.device(ctx, t, remote)
			if err == nil {
				return c, OffloadError{}, nil
			}
			if end := neterr.Over(ctx); end != nil {
				return nil, why, a.fail(a.tried, neterr.OfContext(end))
			}
			w := whyNot(err)
			if !why.tells() || w.tells() {
				why = w
			}
			if a.policy != OffloadRequire && !known && (w.Reason == ReasonHandshakeTimeout || w.Reason == ReasonAsking) {
				waited = append(waited, p.transport)
			}
		}
	}
	return nil, why, nil
}

// device dials through the device of t that reaches remote.
func (a *dialing) device(ctx context.Context, t transport.Transport, remote netip.AddrPort) (net.Conn, error) {
	p := peer{t.Name(), remote}
	turn := a.turn(ctx, p, func() time.Duration { return answerSlack })
	if turn.end == nil {
		return nil, &turn.why
	}
	defer turn.end()
	local := netaddr.Of(a.LocalAddr)
	dev, err := a.route(ctx, t, local, remote)
	if err != nil {
		return nil, err
	}
	if !a.allows(t, dev) {
		return nil, &OffloadError{ReasonNoDevice, errInSoftware}
	}
	d := &deviceDial{dialing: a, transport: t, device: dev, local: local, remote: remote}
	c, info, err := d.findPort(ctx, p)
	if err != nil {
		if neterr.Over(ctx) == nil { // another address may have been faster
			a.learn(p, err, errors.Is(err, errNoPeerDevice), d.began)
		}
		return nil, err
	}
	if info.Transport == t.Name() { // and not software, which has asked
		info.Ignored = a.toDevice(c)
	}
	return remember(c, info, a.origin), nil
}

func (a *dialing) route(ctx context.Context, t transport.Transport, local, remote netip.AddrPort) (transport.Device, error) {
	ctx, cancel := a.handshake(ctx)
	defer cancel()
	return t.Route(ctx, local, remote)
}

// bypassesKernel reports whether the kernel does not carry the device's connections, as it does
// those of siw and rxe.
func bypassesKernel(t transport.Transport, dev transport.Device) bool {
	return t.Offloads() && !dev.InSoftware
}

// errInSoftware says why OffloadAuto does not take a device: it would be slower than plain TCP.
var errInSoftware = errors.New("device is in software")

// allows reports whether the policy takes the device.
func (a *dialing) allows(t transport.Transport, dev transport.Device) bool {
	return a.policy != OffloadAuto || bypassesKernel(t, dev)
}

// deviceDial is a dial through a device.
type deviceDial struct {
	*dialing
	transport     transport.Transport
	device        transport.Device
	local, remote netip.AddrPort
	began         time.Time // of the latest attempt
}

// attempt connects to the port at the address of remote. It has its own time for the handshake.
func (d *deviceDial) attempt(ctx context.Context, port uint16, k redirect.Connector) (*rdmanet.Conn, error) {
	d.began = time.Now()
	hctx, cancel := d.handshake(ctx)
	defer cancel()
	defer assist(d.local.Addr(), d.remote).stop()
	c, err := d.connect(hctx, netip.AddrPortFrom(d.remote.Addr(), port), k)
	return c, inTime(ctx, hctx, err)
}

// devicePortTries bounds the search for a port that is free for the device as well.
const devicePortTries = 8

// connect connects from a port that the kernel's port space holds for as long as the connection
// lives.
func (d *deviceDial) connect(ctx context.Context, to netip.AddrPort, k redirect.Connector) (*rdmanet.Conn, error) {
	if !d.device.OwnPorts && !d.device.KernelPorts {
		return d.stream(ctx, &deviceQP{}, to, k)
	}
	return d.fromHeldPort(ctx, to, true, func(q *deviceQP) (*rdmanet.Conn, error) { return d.stream(ctx, q, to, k) })
}

// fromHeldPort makes connect try held ports until one is of use. The connection keeps that one;
// otherwise it is given back at the end.
func (d *deviceDial) fromHeldPort(
	ctx context.Context, to netip.AddrPort, keeps bool, connect func(*deviceQP) (*rdmanet.Conn, error),
) (*rdmanet.Conn, error) {
	for try := 1; ; try++ {
		// Ports are shared with connections to elsewhere, until one turns out to be of no use.
		held, err := d.PortSpace.hold(ctx, d.local, to, d.device, try > 1)
		if err != nil {
			return nil, err
		}
		q, kept := &deviceQP{port: held}, false
		leave := func() {
			if !kept {
				q.leavePort()
			}
		}
		defer leave() // no sooner, or the next try would get the same port
		c, err := connect(q)
		switch {
		case err == nil && keeps:
			kept = true
			held.Keep(q.forgo())
			q.leavePortWhenGone()
			return c, nil
		case err == nil, d.local.Port() != 0, try == devicePortTries, !taken(err):
			return c, err
		}
	}
}

// taken reports whether another port may do where a held one did not. EADDRNOTAVAIL then means that
// a connection between the two addresses and ports is still in TIME_WAIT, or that the device has
// the port on a wildcard address.
func taken(err error) bool {
	return errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, syscall.EADDRNOTAVAIL)
}

// stream sets up the stream over q, from the port that it holds, or from one that the transport
// chooses.
func (d *deviceDial) stream(ctx context.Context, q *deviceQP, to netip.AddrPort, k redirect.Connector) (*rdmanet.Conn, error) {
	local := d.local
	if q.port != nil {
		local = q.port.AddrPort()
	}
	connector, err := d.transport.Dial(ctx, local, to, nil)
	if err != nil {
		return nil, err
	}
	q.QueuePair, q.remote = connector.QueuePair(), d.remote.Port()
	k.Connector = &deviceConnector{Connector: connector, qp: q, admits: d.device.KernelPorts}
	return d.Dialer.stream(ctx, &k)
}

// deviceConnector is a device's connection in the making, whose queue pair is qp.
type deviceConnector struct {
	transport.Connector
	qp     *deviceQP
	admits bool // the device binds a socket of its own to the port that is held
}

func (c *deviceConnector) QueuePair() transport.QueuePair { return c.qp }

func (c *deviceConnector) Connect(ctx context.Context, private []byte) ([]byte, error) {
	if !c.admits {
		return c.Connector.Connect(ctx, private)
	}
	shut, err := c.qp.port.Admit()
	if err != nil {
		return nil, err
	}
	peer, err := c.Connector.Connect(ctx, private)
	shut()
	if err != nil {
		return nil, err
	}
	if err := c.qp.port.Stolen(); err != nil {
		_ = c.qp.QueuePair.Abort() // and the port is kept until the next try has another
		return nil, err
	}
	return peer, nil
}

// throughAny is tryEach, in which the families of addresses race as package net has it. Where
// neither has led to a connection, the outcome is that of the first, unless only the other one got
// as far as an attempt.
func (a *dialing) throughAny(ctx context.Context, usable []transport.Transport, remotes []netip.AddrPort) (net.Conn, OffloadError, error) {
	ends := a.race(ctx, a.network, remotes, func(ctx context.Context, list []netip.AddrPort) raced {
		b := *a
		r := raced{a: &b}
		r.c, r.why, r.err = r.a.tryEach(ctx, usable, list)
		return r
	})
	r := ends[0]
	if len(ends) > 1 && r.err == nil && !r.why.tells() && ends[1].why.tells() {
		r = ends[1]
	}
	a.tried, a.waited = r.a.tried, r.a.waited
	if r.c != nil {
		return r.c, OffloadError{}, nil
	}
	return nil, r.why, r.err
}
