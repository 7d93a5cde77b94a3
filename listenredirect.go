package iwarp

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/rdmanet/iwarp/internal/netaddr"
	"github.com/rdmanet/iwarp/internal/redirect"
	"github.com/rdmanet/iwarp/rdmanet"
	"github.com/rdmanet/iwarp/transport"
)

var errNoSoftware = &OffloadError{ReasonPolicy, errors.New("client wants iwarp in software, which is not among the transports")}

// errNoRoom is why clients are refused that are too many at once.
var errNoRoom = &OffloadError{ReasonLimit, errors.New("too many clients at once wait for Accept")}

// errShare is why a client is refused whose peer has too many.
var errShare = &OffloadError{ReasonLimit, errors.New("the peer has too many connections, or too many new ones")}

// serve sets up the stream that a client asks for, unless it came by the kernel and is better off
// with a device.
func (l *Listener) serve(ctx context.Context, h *halfOpen, r transport.Request) (*rdmanet.Conn, error) {
	h.l, h.host = l, netaddr.Unmap(r.QueuePair().RemoteAddr()).Addr()
	peers.heard(h.host, time.Now())
	h.ask = redirect.Request{Request: r, Service: l.at.Port(), Redirects: h.c != nil, Host: h}
	switch {
	case h.surplus:
		h.ask.Else = errShare
	case h.c != nil && l.redirects:
		h.ask.Else = errNoSoftware
	case h.c == nil && l.half.hasCut(h):
		h.ask.Else = errNoRoom
	}
	return rdmanet.Server(ctx, &h.ask, &l.stream)
}

// Port implements redirect.Host.
func (h *halfOpen) Port() uint16 { return h.l.redirectPort(netaddr.Of(h.c.LocalAddr()).Addr()) }

// Why implements redirect.Host.
func (h *halfOpen) Why(err error) redirect.Why {
	h.l.refusals.add(h.host, err, time.Now())
	return whyRefused(err)
}

// refuseSurplus returns what a device's client is told for which there is no room.
func (l *Listener) refuseSurplus(remote netip.AddrPort, request []byte) []byte {
	l.counters.overflowed.Add(1)
	l.refusals.add(netaddr.Unmap(remote).Addr(), errNoRoom, time.Now())
	return redirect.Refusal(request, whyRefused(errNoRoom))
}

// redirectPort returns the port where an iWARP device that has the address now listens, or 0, and
// counts the client that is sent there.
func (l *Listener) redirectPort(local netip.Addr) uint16 {
	for _, d := range l.deviceList() {
		if d.port != nil && !d.down.Load() && l.reaches(d, local) {
			l.counters.redirected.Add(1)
			return d.port.AddrPort().Port()
		}
	}
	return 0
}

// reaches reports whether a device that d listens on has the address now.
func (h *listening) reaches(d *deviceListener, local netip.Addr) bool {
	present, err := d.transport.Devices()
	if err != nil {
		return false
	}
	for _, now := range present {
		for _, dev := range d.devices {
			if dev.Name == now.Name && now.IWARP && hasAddr(now, local) && !h.isGone(d, dev.Name) {
				return true
			}
		}
	}
	return false
}
