package iwarp

import (
	"context"
	"net"
	"net/netip"
	"time"

	"github.com/rdmanet/iwarp/transport"
)

// viaDevice dials through the first device that reaches the peer and gets an answer. A nil connection comes with the reason
// why there is none, or with an error if the dial is over.
func (a *dialing) viaDevice(ctx context.Context, devices []transport.Transport) (net.Conn, OffloadError, error) {
	why := OffloadError{Reason: ReasonNoDevice}
	usable := devices[:0:0]
	for _, t := range devices {
		switch list, err := t.Devices(); {
		case err != nil:
			why.Err = err
		case len(list) > 0:
			usable = append(usable, t)
		}
	}
	if len(usable) == 0 {
		return nil, why, nil
	}
	remotes, err := lookup(ctx, a.Resolver, a.network, a.address)
	if err != nil {
		// The kernel path will fail alike, with the error that package net gives.
		return nil, OffloadError{ReasonFailed, err}, nil
	}
	for _, remote := range remotes {
		for _, t := range usable {
			c, err := a.device(ctx, t, remote)
			if err == nil {
				return c, OffloadError{}, nil
			}
			if end := over(ctx); end != nil {
				return nil, why, a.fail(netAddr(remote), ctxError(end))
			}
			why = OffloadError{reasonOf(err), bare(err)}
		}
	}
	return nil, why, nil
}

func (a *dialing) device(ctx context.Context, t transport.Transport, remote netip.AddrPort) (net.Conn, error) {
	p := peer{t.Name(), remote}
	if why, ok := peers.lookup(p, time.Now()); ok && a.policy != OffloadRequire {
		return nil, &why
	}
	var local netip.AddrPort
	if l, ok := a.LocalAddr.(*net.TCPAddr); ok && l != nil {
		local = unmap(l.AddrPort())
	}
	began := time.Now()
	hctx, cancel := a.handshake(ctx)
	defer cancel()
	dev, err := t.Route(hctx, local, remote)
	if err != nil {
		return nil, err
	}
	var held *Reservation
	if dev.OwnPorts {
		if held, err = a.PortSpace.or().hold(hctx, local, remote, dev.Addrs); err != nil {
			return nil, err
		}
		local = held.addrPort()
	}
	c, err := connect(hctx, func() (transport.Connector, error) {
		connector, err := t.Dial(hctx, local, remote, nil)
		if err != nil || held == nil {
			return connector, err
		}
		return holdingConnector{connector, holdPort(connector.QueuePair(), held)}, nil
	})
	if err != nil {
		if held != nil {
			_ = held.Release()
		}
		if over(hctx) != nil && over(ctx) == nil {
			err = transport.ErrHandshakeTimeout
		}
		if reason := reasonOf(err); reason != ReasonHandshakeTimeout || !a.hasty(began) {
			peers.learn(p, OffloadError{reason, bare(err)}, time.Now())
		}
		return nil, err
	}
	peers.forget(p)
	return remember(c, Info{Transport: t.Name(), Device: dev.Name, Offloaded: t.Offloads()}), nil
}

// holdingConnector gives the queue pair of a connector a port to hold.
type holdingConnector struct {
	transport.Connector
	qp transport.QueuePair
}

func (c holdingConnector) QueuePair() transport.QueuePair { return c.qp }
