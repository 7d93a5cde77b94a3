package iwarp

import (
	"context"
	"net"
	"net/netip"
	"time"

	"github.com/rdmanet/iwarp/transport"
)

// defaultFallbackDelay is that of package net.
const defaultFallbackDelay = 300 * time.Millisecond

// families returns the addresses of the family of the first one, and those that race with them, as
// package net has it.
func (a *dialing) families(remotes []netip.AddrPort) (first, second []netip.AddrPort) {
	if a.network != "tcp" || a.FallbackDelay < 0 {
		return remotes, nil
	}
	for _, r := range remotes {
		if r.Addr().Is4() == remotes[0].Addr().Is4() {
			first = append(first, r)
		} else {
			second = append(second, r)
		}
	}
	return first, second
}

// A raced is the outcome of a dial to the addresses of one family.
type raced struct {
	a      *dialing
	c      net.Conn
	why    OffloadError
	err    error
	second bool
}

// race is tryEach, in which addresses of a second family begin once FallbackDelay has passed, or
// those of the first have failed (RFC 6555). The first connection counts.
func (a *dialing) race(ctx context.Context, usable []transport.Transport, remotes []netip.AddrPort) (net.Conn, OffloadError, error) {
	first, second := a.families(remotes)
	if len(second) == 0 {
		return a.tryEach(ctx, usable, first)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results, over := make(chan raced), make(chan struct{})
	defer close(over)
	start := func(list []netip.AddrPort, second bool) {
		b := *a
		go func() {
			r := raced{a: &b, second: second}
			r.c, r.why, r.err = b.tryEach(ctx, usable, list)
			select {
			case results <- r:
			case <-over:
				if r.c != nil {
					_ = r.c.Close()
				}
			}
		}()
	}
	delay := a.FallbackDelay
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
				a.tried, a.waited = r.a.tried, r.a.waited
				return r.c, OffloadError{}, nil
			}
			ends = append(ends, r)
		}
		if waiting {
			waiting = false
			start(second, true)
		}
	}
	return a.lost(ends)
}

// lost is the outcome where neither family has led to a connection: that of the first, unless only
// the other one got as far as an attempt.
func (a *dialing) lost(ends []raced) (net.Conn, OffloadError, error) {
	r, other := ends[0], ends[1]
	if r.second {
		r, other = other, r
	}
	if r.err == nil && !r.why.tells() && other.why.tells() {
		r = other
	}
	a.tried, a.waited = r.a.tried, r.a.waited
	return nil, r.why, r.err
}
