package iwarp

import (
	"context"
	"errors"
	"net"
	"net/netip"

	"github.com/rdmanet/iwarp/internal/netaddr"
	"github.com/rdmanet/iwarp/internal/ports"
	"github.com/rdmanet/iwarp/transport"
)

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
