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
)

// expected is how many other addresses of a name are thought to follow the first.
func (k *kernelDial) expected() int {
	if k.policy != OffloadRequire || k.spoke {
		return 0
	}
	return k.further()
}

// further is how many other addresses a name has, or is thought to have if they are not known.
func (k *kernelDial) further() int {
	switch {
	case k.remotes != nil:
		return len(k.remotes) - 1
	case isLiteral(k.address):
		return 0
	}
	return 1
}

// others returns the addresses of a name besides the one that is connected, in the order in which
// to try them.
func (k *kernelDial) others(ctx context.Context) []netip.AddrPort {
	list := netaddr.Unmapped(k.remotes)
	if list == nil {
		if isLiteral(k.address) {
			return nil
		}
		lctx, cancel := k.connecting(ctx, k.trip())
		defer cancel()
		var err error
		if list, err = netaddr.Lookup(untraced{lctx}, k.Resolver, k.network, k.address); err != nil {
			return nil
		}
	}
	// Those before it have failed for package net, so they come last.
	i := slices.Index(list, k.peer.addr)
	return slices.DeleteFunc(slices.Concat(list[i+1:], list[:i+1]), func(a netip.AddrPort) bool { return a == k.peer.addr })
}

// next tries to get an iWARP connection to one of the other addresses of the name, as the first has
// failed with err. Where plain TCP is allowed, and the first has already cost a wait for an answer,
// it does not wait for one from those about which nothing is known.
func (k *kernelDial) next(ctx context.Context, err error) net.Conn {
	if neterr.Over(ctx) != nil {
		return nil
	}
	others := k.others(ctx)
	waited := k.policy != OffloadRequire && reasonOf(err) == ReasonHandshakeTimeout
	for i, addr := range others {
		k.ahead = len(others) - i - 1
		if waited && !peers.speaks(peer{k.transport.Name(), addr}, time.Now()) {
			continue
		}
		if !k.hasTime(ctx, 2) {
			return nil
		}
		c, err := k.to(ctx, addr)
		if err == nil {
			if k.policy != OffloadRequire {
				peers.learnInstead(k.peer, k.name(), addr)
			}
			return c
		}
		if neterr.Over(ctx) != nil {
			return nil
		}
		waited = waited || k.policy != OffloadRequire && reasonOf(err) == ReasonHandshakeTimeout
	}
	return nil
}

// orInstead returns the plain connection to a peer that is known not to speak iWARP, or an iWARP
// connection to the address of the name that is known to speak it.
func (k *kernelDial) orInstead(ctx context.Context, why OffloadError) (net.Conn, error) {
	var addr netip.AddrPort
	if k.other {
		addr = peers.instead(k.peer, k.name(), time.Now())
	}
	samePort := hasPort(k.LocalAddr) // which only one of the two can have
	if addr.IsValid() && (!samePort || k.hasTime(ctx, 2)) {
		if samePort {
			_ = k.tcp.SetLinger(0)
			_ = k.tcp.Close()
		}
		began := time.Now()
		c, err := k.to(ctx, addr)
		if err == nil {
			peers.learnInstead(k.peer, k.name(), addr)
			_ = k.tcp.Close()
			return c, nil
		}
		if neterr.Over(ctx) == nil && isPeers(err) {
			peers.insteadFailed(k.peer, k.name(), addr, began, time.Now())
		}
		if samePort {
			tcp, err := k.kernel(ctx, k.remote.String())
			if err != nil {
				return nil, err
			}
			k.tcp = tcp
		}
	}
	if end := neterr.Over(ctx); end != nil {
		_ = k.tcp.Close()
		return nil, k.fail(k.remote, neterr.OfContext(end))
	}
	return rememberTCP(k.tcp, plainInfo(why.Reason, why.Err), k.origin), nil
}

// isPeers reports whether a failure to get an iWARP connection is the peer's or the path's, and not
// this host's or that of the Dialer's functions.
func isPeers(err error) bool {
	switch reasonOf(err) {
	case ReasonHandshakeTimeout, ReasonNotIWARP, ReasonDeclined, ReasonNoRoute:
		return !errors.Is(err, errNoTime)
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

func (k *kernelDial) name() string { return k.network + " " + k.address }

// to gets an iWARP connection to another address.
func (k *kernelDial) to(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	dctx, cancel := k.connecting(ctx, k.trip())
	defer cancel()
	other, err := k.dialKernel(dctx, k.transport, addr.String())
	if err != nil {
		return nil, err
	}
	if why, ok := other.turn(ctx); !ok {
		_ = other.tcp.Close()
		return nil, &why
	}
	return other.speak(ctx)
}
