package iwarp

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/rdmanet/iwarp/rdmanet"
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
	var c *rdmanet.Conn
	if dev.OwnPorts {
		c, err = a.fromHeldPort(hctx, t, dev, local, remote)
	} else {
		c, err = connect(hctx, func() (transport.Connector, error) { return t.Dial(hctx, local, remote, nil) })
	}
	if err != nil {
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

// devicePortTries bounds the search for a port that is free for the device, too.
const devicePortTries = 8

// fromHeldPort connects from a port that the kernel's port space holds for as long as the connection lives.
func (a *dialing) fromHeldPort(ctx context.Context, t transport.Transport, dev transport.Device, local, remote netip.AddrPort) (*rdmanet.Conn, error) {
	for try := 1; ; try++ {
		held, err := a.PortSpace.or().hold(ctx, local, remote, dev)
		if err != nil {
			return nil, err
		}
		kept := false
		leave := func() {
			if !kept {
				held.leave()
			}
		}
		defer leave() // no sooner, or the next try would get the same port
		c, err := connect(ctx, func() (transport.Connector, error) {
			connector, err := t.Dial(ctx, held.port.addrPort(), remote, nil)
			if err != nil {
				return nil, err
			}
			return holdingConnector{connector, holdPort(connector.QueuePair(), held)}, nil
		})
		if err == nil {
			kept = true
			held.keep()
			return c, nil
		}
		if local.Port() != 0 || try == devicePortTries || !errors.Is(err, syscall.EADDRINUSE) {
			return nil, err
		}
	}
}

// holdingConnector gives the queue pair of a connector a port to hold.
type holdingConnector struct {
	transport.Connector
	qp transport.QueuePair
}

func (c holdingConnector) QueuePair() transport.QueuePair { return c.qp }
