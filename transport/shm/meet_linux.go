package shm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/rdmanet/iwarp/transport"
)

const (
	unixNetwork = "unix"
	namePrefix  = "@iwarp/shm/4/" // with the version of the greeting
	onlyIPv6    = "/6"
)

// meetingName is the abstract name of the meeting place of a listener on the address and port. A
// wildcard of IPv6 is for IPv4 as well unless only6 says that it is not.
func meetingName(at netip.AddrPort, only6 bool) string {
	name := namePrefix + at.String()
	if only6 && at.Addr() == netip.IPv6Unspecified() {
		name += onlyIPv6
	}
	return name
}

// meetingNames are those where a listener may be found that a connection to remote reaches, the
// more special ones first, as the kernel chooses.
func meetingNames(remote netip.AddrPort) []string {
	port := remote.Port()
	any4, any6 := netip.AddrPortFrom(netip.IPv4Unspecified(), port), netip.AddrPortFrom(netip.IPv6Unspecified(), port)
	names := []string{meetingName(remote, false)}
	if remote.Addr().Is4() {
		names = append(names, meetingName(any4, false))
	} else {
		names = append(names, meetingName(any6, true))
	}
	return append(names, meetingName(any6, false))
}

// A meeting is a connection to the process that has the listener at an address and port.
type meeting struct {
	c      *net.UnixConn
	source netip.Addr // where a connection would come from
	link   *link      // that c belongs to, of a connection that has ended, or nil
	until  time.Time  // it waits for a dial
}

// meet connects to the listener that a TCP connection to p would reach. The error matches
// transport.ErrNoRoute where there is none that is known and can be trusted.
func meet(ctx context.Context, local netip.Addr, p site) (*meeting, error) {
	source, err := sourceOf(local, p)
	if err != nil {
		return nil, err
	}
	c, err := find(ctx, p)
	for began := time.Now(); err == errNobody && time.Since(began) < handoverPatience && known.movesOn(p); {
		if !sleep(ctx, callAgain) {
			return nil, ctx.Err()
		}
		c, err = find(ctx, p)
	}
	if err != nil {
		return nil, err
	}
	return &meeting{c: c, source: source}, nil
}

// sourceOf returns the address that a connection to p comes from, which local says if it is one.
func sourceOf(local netip.Addr, p site) (netip.Addr, error) {
	source, err := hosts.source(site{p.space, netip.AddrPortFrom(p.at.Addr(), 0)})
	if err == nil && local.IsValid() && !local.IsUnspecified() {
		source = local.Unmap()
	}
	return source, err
}

// find looks for the process that has the listener at p in all places where it may be met. Others
// that are found there are passed over.
func find(ctx context.Context, p site) (*net.UnixConn, error) {
	why := error(errNobody)
	for _, name := range meetingNames(p.at) {
		c, err := call(ctx, name)
		if err == nil {
			if err = known.check(c, p); err == nil {
				return c, nil
			}
			hangUp(c)
		}
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case isLack(err):
			return nil, err
		case !errors.Is(err, syscall.ECONNREFUSED) && why == errNobody:
			why = err
		}
	}
	return nil, why
}

// isLack reports whether err is a lack of this process's or host's, which says nothing of a peer.
func isLack(err error) bool {
	for _, of := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM} {
		if errors.Is(err, of) {
			return true
		}
	}
	return false
}

var (
	errNobody = fmt.Errorf("%w: nobody there offers shared memory", transport.ErrNoRoute)
	errAfar   = fmt.Errorf("%w: the address is not of this host", transport.ErrNoRoute)
	errBusy   = fmt.Errorf("%w: whoever offers shared memory there accepts nobody", transport.ErrNoRoute)
)

const (
	// callAgain is how long call waits where the listener's queue is full, and callPatience how long
	// in all.
	callAgain    = time.Millisecond
	callPatience = 20 * time.Millisecond
)

// handoverPatience is how long a service is waited for that was met lately, as another process may
// be about to take its place.
var handoverPatience = 5 * placeRetry

func call(ctx context.Context, name string) (*net.UnixConn, error) {
	for began := time.Now(); ; {
		c, err := net.DialUnix(unixNetwork, nil, &net.UnixAddr{Name: name, Net: unixNetwork})
		if err == nil {
			return c, nil
		}
		var sys *os.SyscallError
		if !errors.As(err, &sys) {
			return nil, err
		}
		if !errors.Is(sys, syscall.EAGAIN) {
			return nil, sys
		}
		if time.Since(began) >= callPatience {
			return nil, errBusy
		}
		if !sleep(ctx, callAgain) {
			return nil, ctx.Err()
		}
	}
}

// sleep reports false if ctx is done first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// A site is an address and port in a network namespace.
type site struct {
	space uint64
	at    netip.AddrPort
}

// hosts remembers for a moment which addresses are of this host, as a program may dial others many
// times.
var hosts hostCache

type hostCache struct {
	mu sync.Mutex
	m  map[site]hostSource
}

type hostSource struct {
	addr  netip.Addr
	err   error
	until time.Time
}

// source returns the address that a connection to p comes from, whose port does not matter. It is
// an error if p is not of this host.
func (h *hostCache) source(p site) (netip.Addr, error) {
	h.mu.Lock()
	s, ok := h.m[p]
	h.mu.Unlock()
	if ok && time.Now().Before(s.until) {
		return s.addr, s.err
	}
	if s.addr, s.err = sourceFor(p.at); isLack(s.err) {
		return s.addr, s.err
	}
	s.until = time.Now().Add(trustTTL)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.m == nil || len(h.m) >= mostKnown {
		h.m = make(map[site]hostSource)
	}
	h.m[p] = s
	return s.addr, s.err
}

// sourceFor returns the address that a connection to remote comes from. It is an error if remote is
// not an address of this host.
func sourceFor(remote netip.AddrPort) (netip.Addr, error) {
	to := remote.Addr()
	// The kernel chooses as for TCP; nothing is sent by this.
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, max(remote.Port(), 1))))
	if isLack(err) {
		return netip.Addr{}, err
	}
	if err != nil {
		return netip.Addr{}, fmt.Errorf("%w: %w", transport.ErrNoRoute, err)
	}
	source := c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
	_ = c.Close()
	if !to.IsLoopback() && source != to {
		return netip.Addr{}, errAfar
	}
	return source, nil
}

// scopeOf is the index of the interface that a link-local address belongs to.
func scopeOf(a netip.Addr) uint32 {
	if a.Zone() == "" {
		return 0
	}
	if i, err := net.InterfaceByName(a.Zone()); err == nil {
		return uint32(i.Index)
	}
	return 0
}
