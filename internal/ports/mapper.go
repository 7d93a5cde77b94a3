package ports

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"

	"github.com/rdmanet/iwarp/internal/bound"
	"github.com/rdmanet/iwarp/internal/portmap"
)

// ServePortMapper answers the queries of port mapper daemons until ctx ends.
func (sp *Space) ServePortMapper(ctx context.Context, address string) error {
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
		if answer, ok := sp.answer(in[:n], netns); ok {
			_, _ = u.WriteToUDPAddrPort(answer.Append(out[:0]), from)
		}
	}
}

// maxFailures is how many reads in a row may fail.
const maxFailures = 100

// answer returns what to say to a datagram, if anything.
func (sp *Space) answer(b []byte, netns uint64) (portmap.Message, bool) {
	m, err := portmap.Parse(b)
	if err != nil || m.Kind != portmap.Request {
		return m, false
	}
	if sp.listens(m.Accepting, netns) {
		return m.Answer(portmap.Accept), true
	}
	return m.Answer(portmap.Reject), true
}

// listens reports whether a listener of the Space in the network namespace takes connections to
// a.
func (sp *Space) listens(a netip.AddrPort, netns uint64) bool {
	sp.mu.Lock()
	list := slices.Clone(sp.held[int(a.Port())])
	sp.mu.Unlock()
	host := a.Addr().Unmap().WithZone("")
	return slices.ContainsFunc(list, func(r *Reservation) bool {
		if r.at.Netns != netns || r.at.Addr != host && !(r.at.Addr.IsUnspecified() && r.at.Reaches(host)) {
			return false
		}
		info, held := r.info()
		return held && info.State == Listening
	})
}
