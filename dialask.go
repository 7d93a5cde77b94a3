package iwarp

import (
	"context"
	"errors"
	"time"

	"github.com/rdmanet/iwarp/rdmanet"
	"github.com/rdmanet/iwarp/transport/soft"
)

var errNoPeerDevice = errors.New("peer has no rdma device for the address")

// ask has iWARP in software ask the peer for the port of its device. It is for siw, which must not be the first to talk to a port: where
// something else than an MPA reply comes back, its kernel (Linux 6.1) follows a nil pointer.
//
// A peer that takes the connection has no device to redirect to. That will do, if the policy does not say that only a device will.
// Else the device is tried where the peer is an rsocket, which may well listen through a device on the very port.
func (d *deviceDial) ask(ctx context.Context) (*rdmanet.Conn, Info, error) {
	software := d.software
	if software == nil {
		software = soft.New(nil)
	}
	d.began = time.Now()
	tcp, err := d.kernel(ctx, d.remote.String())
	if err != nil {
		return nil, Info{}, err
	}
	c, err := d.upgrade(ctx, software, tcp, &rdmanet.Config{Redirectable: true})
	switch {
	case err != nil:
		if reason := reasonOf(err); reason == ReasonNotIWARP {
			peers.learn(peer{software.Name(), d.remote}, whyNot(err), time.Now())
		}
		return nil, Info{}, err
	case d.policy != OffloadAuto && d.software != nil:
		return c, Info{Transport: software.Name(), Device: c.Attributes().Device, Offloaded: software.Offloads()}, nil
	}
	extended := c.Extended()
	_ = c.Close()
	if extended {
		return nil, Info{}, &OffloadError{ReasonDeclined, errNoPeerDevice}
	}
	c, err = d.attempt(ctx, d.remote.Port(), nil)
	return c, d.info(0), err
}
