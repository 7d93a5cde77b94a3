package iwarp

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"

	"github.com/rdmanet/iwarp/internal/bound"
	"github.com/rdmanet/iwarp/internal/portmap"
)

// ServePortMapper answers the queries that kernels with the port mapper daemon iwpmd send before
// they connect through an RNIC, so that they need not wait 10 s for an answer: yes for a port that
// listens in the PortSpace, which stands for itself, and no for others, which makes them connect to
// the port they wanted all the same. The address is where to wait for the queries; "" means UDP
// port 3935 of all addresses, which a daemon of the host may have already (syscall.EADDRINUSE).
//
// It runs until the context ends, and then returns nil. Nothing calls it unless you do. Anybody who
// can send datagrams to the port learns from the answers which ports listen, as from a TCP
// connection; an answer is never longer than its query.
func (ps *PortSpace) ServePortMapper(ctx context.Context, address string) error {
	ps = ps.or()
	if address == "" {
		address = net.JoinHostPort("", "3935")
	}
	c, err := (&net.ListenConfig{}).ListenPacket(ctx, "udp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	netns, err := bound.CurrentNetns()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	u := c.(*net.UDPConn)
	var in, out [128]byte
	for failures := 0; ; {
		n, from, err := u.ReadFromUDPAddrPort(in[:])
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			// An ICMP error for an earlier answer is no reason to stop, nor are a few.
			if failures++; failures > maxFailures || errors.Is(err, net.ErrClosed) {
				return err
			}
			continue
		}
		failures = 0
		if answer, ok := ps.answer(in[:n], netns); ok {
			_, _ = u.WriteToUDPAddrPort(answer.Append(out[:0]), from)
		}
	}
}

// maxFailures is how many reads in a row may fail.
const maxFailures = 100

// answer returns what to say to a datagram, if anything.
func (ps *PortSpace) answer(b []byte, netns uint64) (portmap.Message, bool) {
	m, err := portmap.Parse(b)
	if err != nil || m.Kind != portmap.Request {
		return m, false
	}
	if ps.listens(m.Accepting, netns) {
		return m.Answer(portmap.Accept), true
	}
	return m.Answer(portmap.Reject), true
}

// listens reports whether a listener of the PortSpace in the network namespace takes connections to
// a.
func (ps *PortSpace) listens(a netip.AddrPort, netns uint64) bool {
	ps.mu.Lock()
	list := slices.Clone(ps.held[int(a.Port())])
	ps.mu.Unlock()
	host := a.Addr().Unmap().WithZone("")
	return slices.ContainsFunc(list, func(r *Reservation) bool {
		if r.at.Netns != netns || r.at.Addr != host && !(r.at.Addr.IsUnspecified() && r.at.Reaches(host)) {
			return false
		}
		info, held := r.info()
		return held && info.State == PortListening
	})
}
