package iwarp

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/rdmanet/iwarp/internal/netaddr"
	"github.com/rdmanet/iwarp/internal/neterr"
)

// others returns the addresses of a name besides the one that is connected, in the order in which
// to try them. Where plain TCP is allowed, and for a peer that has spoken iWARP before, looking is
// left to next.
func (k *kernelDial) others(ctx context.Context) []netip.AddrPort {
	if k.policy != OffloadRequire || k.spoke {
		return nil
	}
	return k.lookupOthers(ctx)
}

func (k *kernelDial) lookupOthers(ctx context.Context) []netip.AddrPort {
	host, _, err := net.SplitHostPort(k.address)
	if err != nil || host == "" {
		return nil
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return nil
	}
	list, err := netaddr.Lookup(ctx, k.Resolver, k.network, k.address)
	if err != nil {
		return nil
	}
	// Those before it have failed for package net, so they come last.
	i := slices.Index(list, k.peer.addr)
	return slices.DeleteFunc(slices.Concat(list[i+1:], list[:i+1]), func(a netip.AddrPort) bool { return a == k.peer.addr })
}

// next tries to get an iWARP connection to one of the other addresses of the name, as the first has
// failed with err. Where plain TCP is allowed, and the first has already cost a wait for an answer,
// it does not wait for one from those about which nothing is known.
func (k *kernelDial) next(ctx context.Context, others []netip.AddrPort, err error) net.Conn {
	if neterr.Over(ctx) != nil {
		return nil
	}
	if others == nil {
		others = k.lookupOthers(ctx)
	}
	waited := k.policy != OffloadRequire && reasonOf(err) == ReasonHandshakeTimeout
	for i, addr := range others {
		k.ahead = len(others) - i - 1
		if waited && !peers.speaks(peer{k.transport.Name(), addr}, time.Now()) {
			continue
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
	if addr.IsValid() {
		if samePort {
			_ = k.tcp.SetLinger(0)
			_ = k.tcp.Close()
		}
		if c, err := k.to(ctx, addr); err == nil {
			_ = k.tcp.Close()
			return c, nil
		}
		if samePort {
			tcp, err := k.kernel(ctx, k.remote.String())
			if err != nil {
				return nil, err
			}
			k.tcp = tcp
		}
	}
	return remember(k.tcp, plainInfo(why.Reason, why.Err)), nil
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
	if why, ok := other.turn(dctx); !ok {
		_ = other.tcp.Close()
		return nil, &why
	}
	return other.speak(ctx)
}
