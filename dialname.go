package iwarp

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/rdmanet/iwarp/internal/netaddr"
	"github.com/rdmanet/iwarp/internal/neterr"
)

// resolve looks up the name that is dialed, once for the whole dial: no later lookup can fail it or
// hold it up. What is no name is left to package net, and so are the names of dials from a port,
// which may be reserved.
func (a *dialing) resolve(ctx context.Context) error {
	if a.remotes != nil || isLiteral(a.address) || hasPort(a.LocalAddr) {
		return nil
	}
	remotes, err := netaddr.Resolve(lookingUp{ctx}, a.Resolver, a.network, a.address)
	if err != nil {
		return &net.OpError{Op: "dial", Net: a.network, Err: err}
	}
	a.remotes = complete(remotes)
	return nil
}

// complete returns nil if one of the addresses lacks its zone, which package net knows.
func complete(remotes []netip.AddrPort) []netip.AddrPort {
	if slices.ContainsFunc(remotes, needsZone) {
		return nil
	}
	return remotes
}

func needsZone(a netip.AddrPort) bool { return a.Addr().Is6() && a.Addr().IsLinkLocalUnicast() }

// isLiteral reports whether there is nothing to look up.
func isLiteral(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil || host == "" {
		return true
	}
	_, err = netip.ParseAddr(host)
	return err == nil
}

// toAny dials a TCP connection of the kernel to one of the addresses of a name as package net does,
// or to the address itself if they are not known.
func (d *Dialer) toAny(ctx context.Context, network, address string, remotes []netip.AddrPort) (*net.TCPConn, error) {
	if remotes == nil {
		return d.kernel(ctx, network, address)
	}
	ends := d.race(ctx, network, d.fitting(remotes), func(ctx context.Context, list []netip.AddrPort) raced {
		c, err := inTurn(ctx, len(list), func(ctx context.Context, i int) (net.Conn, error) {
			to := netaddr.Unmap(list[i])
			c, err := d.kernel(ctx, network, to.String())
			if err != nil {
				if op := new(net.OpError); errors.As(err, &op) && netaddr.Of(op.Addr) == to {
					op.Addr = net.TCPAddrFromAddrPort(list[i]) // in the form that package net has
				}
				return nil, err
			}
			return c, nil
		})
		return raced{c: c, err: err}
	})
	if ends[0].err != nil {
		return nil, ends[0].err
	}
	return ends[0].c.(*net.TCPConn), nil
}

// fitting returns the addresses that can be dialed from LocalAddr, or one that cannot if all are
// like that.
func (d *Dialer) fitting(remotes []netip.AddrPort) []netip.AddrPort {
	local := netaddr.Of(d.LocalAddr).Addr()
	if !local.IsValid() || local.IsUnspecified() {
		return remotes
	}
	var list []netip.AddrPort
	for _, r := range remotes {
		if r.Addr().Unmap().IsUnspecified() || r.Addr().Unmap().Is4() == local.Is4() {
			list = append(list, r)
		}
	}
	if list == nil {
		return remotes[:1]
	}
	return list
}

// inTurn makes one of n attempts after the other until one succeeds, dividing the time as package
// net does. The first error is the most relevant.
func inTurn(ctx context.Context, n int, try func(ctx context.Context, i int) (net.Conn, error)) (net.Conn, error) {
	var first error
	for i := range n {
		share, end := netaddr.Share(ctx, n-i)
		c, err := try(share, i)
		end()
		if err == nil {
			return c, nil
		}
		if first == nil {
			first = err
		}
		if neterr.Over(ctx) != nil {
			break
		}
	}
	return nil, first
}

// defaultFallbackDelay is that of package net.
const defaultFallbackDelay = 300 * time.Millisecond

// families returns the addresses of the family of the first one, and those that race with them, as
// package net has it.
func (d *Dialer) families(network string, remotes []netip.AddrPort) (first, second []netip.AddrPort) {
	if network != "tcp" || d.FallbackDelay < 0 {
		return remotes, nil
	}
	for _, r := range remotes {
		if r.Addr().Unmap().Is4() == remotes[0].Addr().Unmap().Is4() {
			first = append(first, r)
		} else {
			second = append(second, r)
		}
	}
	return first, second
}

// A raced is the outcome of a dial to the addresses of one family.
type raced struct {
	a      *dialing // of one through devices
	c      net.Conn
	why    OffloadError
	err    error
	second bool
}

// race calls try with the addresses of one family, and with those of a second once FallbackDelay
// has passed, or the first have failed (RFC 6555). The first connection counts. Without one, there
// is an outcome for each family, that of the first before the other.
func (d *Dialer) race(
	ctx context.Context, network string, remotes []netip.AddrPort, try func(context.Context, []netip.AddrPort) raced,
) []raced {
	first, second := d.families(network, remotes)
	if len(second) == 0 {
		return []raced{try(ctx, first)}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results, over := make(chan raced), make(chan struct{})
	defer close(over)
	start := func(list []netip.AddrPort, second bool) {
		go func() {
			r := try(ctx, list)
			r.second = second
			select {
			case results <- r:
			case <-over:
				if r.c != nil {
					_ = r.c.Close()
				}
			}
		}()
	}
	delay := d.FallbackDelay
	if delay == 0 {
		delay = defaultFallbackDelay
	}
	late := time.NewTimer(delay)
	defer late.Stop()
	start(first, false)
	var ends []raced
	for waiting := true; len(ends) < 2; {
		select {
		case <-late.C:
		case r := <-results:
			if r.c != nil {
				return []raced{r}
			}
			ends = append(ends, r)
		}
		if waiting {
			waiting = false
			start(second, true)
		}
	}
	if ends[0].second {
		slices.Reverse(ends)
	}
	return ends
}
