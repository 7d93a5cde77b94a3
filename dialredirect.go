package iwarp

import (
	"context"
	"errors"
	"time"

	"github.com/rdmanet/iwarp/rdmanet"
)

// findPort connects to the port where the peer's device listens: the one dialed, unless the peer is known to have another for its device, or
// says so in its answer, which is then remembered for peerTTL. It returns that other port, or 0. What is remembered may have changed, so
// a failure there is no failure of the dial.
func (d *deviceDial) findPort(ctx context.Context, p peer) (*rdmanet.Conn, uint16, error) {
	if to := peers.redirect(p, time.Now()); to.Port != 0 && d.device.IWARP {
		c, err := d.redirected(ctx, to)
		if err == nil {
			return c, to.Port, nil
		}
		if over(ctx) != nil || !saysOfPeer(reasonOf(err)) {
			return nil, 0, err
		}
		peers.forget(p)
	}
	c, err := d.attempt(ctx, d.remote.Port(), &rdmanet.Config{Redirectable: d.device.IWARP})
	var to *rdmanet.RedirectError
	if err == nil {
		peers.forget(p)
		return c, 0, nil
	}
	if !errors.As(err, &to) || to.Port == d.remote.Port() {
		return nil, 0, err
	}
	if c, err = d.redirected(ctx, *to); err != nil {
		return nil, 0, err
	}
	peers.learnRedirect(p, *to, time.Now())
	return c, to.Port, nil
}

func (d *deviceDial) redirected(ctx context.Context, to rdmanet.RedirectError) (*rdmanet.Conn, error) {
	return d.attempt(ctx, to.Port, &rdmanet.Config{Service: to.Service})
}

// saysOfPeer reports whether a failure for the reason may be due to the port that was dialed.
func saysOfPeer(r Reason) bool {
	switch r {
	case ReasonNotIWARP, ReasonDeclined, ReasonHandshakeTimeout, ReasonFailed:
		return true
	}
	return false
}
