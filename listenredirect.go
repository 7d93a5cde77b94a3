package iwarp

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/rdmanet/iwarp/internal/netaddr"
	"github.com/rdmanet/iwarp/internal/redirect"
	"github.com/rdmanet/iwarp/rdmanet"
	"github.com/rdmanet/iwarp/transport"
)

var errNoSoftware = errors.New("client wants iwarp in software, which is not among the transports")

// serve sets up the stream that a client asks for, unless it came by the kernel and is better off
// with a device.
func (l *Listener) serve(ctx context.Context, h *halfOpen, request func(context.Context) (transport.Request, error)) (*rdmanet.Conn, error) {
	r, err := request(ctx)
	if err != nil {
		return nil, err
	}
	host := netaddr.Unmap(r.QueuePair().RemoteAddr()).Addr()
	peers.heard(host, time.Now())
	to := &redirect.Request{Request: r, Service: l.tcp.Addr().(*net.TCPAddr).AddrPort().Port()}
	to.Why = func(err error) redirect.Why {
		l.refusals.add(host, err, time.Now())
		return whyRefused(err)
	}
	if h.c != nil {
		local := netaddr.Of(h.c.LocalAddr())
		to.Port = func() uint16 { return l.redirectPort(local.Addr()) }
		if l.redirects {
			to.Else = errNoSoftware
		}
	}
	return rdmanet.Server(ctx, to, buffered(l.config.ReadBuffer, l.config.ReadBudget))
}

// redirectPort returns the port where an iWARP device that has the address now listens, or 0, and
// counts the client that is sent there.
func (l *Listener) redirectPort(local netip.Addr) uint16 {
	for _, d := range l.devices {
		if d.port != nil && !d.down.Load() && d.reaches(local) {
			l.counters.redirected.Add(1)
			return d.port.AddrPort().Port()
		}
	}
	return 0
}

// reaches reports whether a device of the listener has the address now.
func (d *deviceListener) reaches(local netip.Addr) bool {
	present, err := d.transport.Devices()
	if err != nil {
		return false
	}
	for _, now := range present {
		for _, dev := range d.devices {
			if dev.Name == now.Name && now.IWARP && hasAddr(now, local) {
				return true
			}
		}
	}
	return false
}
