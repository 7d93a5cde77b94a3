package iwarp

import (
	"context"
	"errors"
	"time"

	"github.com/rdmanet/iwarp/internal/neterr"
	"github.com/rdmanet/iwarp/internal/redirect"
	"github.com/rdmanet/iwarp/rdmanet"
)

// findPort connects to the port where the peer's device listens: the one dialed, unless the peer is
// known to have another for its device, or says so in its answer, which is then remembered for
// peerTTL. What is remembered may have changed, so a failure there is no failure of the dial.
func (d *deviceDial) findPort(ctx context.Context, p peer) (*rdmanet.Conn, Info, error) {
	if to := peers.redirect(p, time.Now()); to.Port != 0 && d.device.IWARP {
		c, info, err := d.redirected(ctx, to)
		if err == nil {
			return c, info, nil
		}
		if neterr.Over(ctx) != nil || !saysOfPeer(reasonOf(err)) {
			return nil, Info{}, err
		}
		peers.forgetRedirect(p)
	}
	var c *rdmanet.Conn
	var err error
	info := d.info(0)
	if d.device.KernelPorts {
		c, info, err = d.ask(ctx)
	} else {
		var k redirect.Connector
		if d.device.IWARP {
			k.Takes = redirect.StreamOrTo
		}
		c, err = d.attempt(ctx, d.remote.Port(), k)
	}
	var to *redirect.To
	if err == nil {
		peers.spoke(p, time.Now())
		return c, info, nil
	}
	if !errors.As(err, &to) || to.Port == d.remote.Port() {
		return nil, Info{}, err
	}
	if c, info, err = d.redirected(ctx, *to); err != nil {
		return nil, Info{}, err
	}
	peers.learnRedirect(p, *to, time.Now())
	return c, info, nil
}

func (d *deviceDial) redirected(ctx context.Context, to redirect.To) (*rdmanet.Conn, Info, error) {
	c, err := d.attempt(ctx, to.Port, redirect.Connector{Service: to.Service})
	return c, d.info(to.Port), err
}

// info describes a connection through the device, to the port redirected to if that is not 0.
func (d *deviceDial) info(redirect uint16) Info {
	return Info{
		Transport: d.transport.Name(), Device: d.device.Name, Offloaded: bypassesKernel(d.transport, d.device), RedirectPort: redirect,
	}
}

// saysOfPeer reports whether a failure for the reason may be due to the port that was dialed.
func saysOfPeer(r Reason) bool {
	switch r {
	case ReasonNotIWARP, ReasonDeclined, ReasonHandshakeTimeout, ReasonFailed:
		return true
	}
	return false
}
