package iwarp

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/rdmanet/iwarp/rdmanet"
	"github.com/rdmanet/iwarp/transport"
)

// viaKernel dials TCP and makes an iWARP connection of it, or falls back to another TCP connection where the policy allows.
func (a *dialing) viaKernel(ctx context.Context, t kernelTransport) (net.Conn, error) {
	tcp, err := a.kernel(ctx, a.address)
	if err != nil {
		return nil, err
	}
	remote := tcp.RemoteAddr().(*net.TCPAddr)
	p := peer{t.Name(), remote.AddrPort()}
	if a.policy == OffloadPrefer {
		if why, ok := peers.lookup(p, time.Now()); ok {
			return remember(tcp, plainInfo(why.Reason, why.Err)), nil
		}
	}

	began := time.Now()
	c, err := a.upgrade(ctx, t, tcp)
	if err == nil {
		peers.forget(p)
		return remember(c, Info{Transport: t.Name(), Device: c.Attributes().Device, Offloaded: t.Offloads()}), nil
	}
	if end := over(ctx); end != nil {
		return nil, a.fail(remote, ctxError(end))
	}
	why := whyNot(err)
	if a.policy == OffloadRequire {
		return nil, a.fail(remote, &why)
	}
	if why.Reason != ReasonHandshakeTimeout || !a.hasty(began) {
		peers.learn(p, why, time.Now())
	}
	return a.plain(ctx, remote.String(), why.Reason, why.Err)
}

// upgrade makes an iWARP connection of tcp. After an error tcp is closed.
func (a *dialing) upgrade(ctx context.Context, t kernelTransport, tcp *net.TCPConn) (*rdmanet.Conn, error) {
	hctx, cancel := a.handshake(ctx)
	defer cancel()
	remote := tcp.RemoteAddr().String()
	// What follows a failure may have to use the same pair of addresses, which TIME_WAIT would forbid.
	samePorts := hasPort(a.LocalAddr)
	if samePorts {
		_ = tcp.SetLinger(0)
	}
	redial := func(ctx context.Context) (*net.TCPConn, error) {
		_ = tcp.Close()
		again, err := a.kernel(ctx, remote)
		if err != nil {
			return nil, err
		}
		tcp = again
		if samePorts {
			_ = tcp.SetLinger(0)
		}
		return tcp, nil
	}
	c, err := connect(hctx, nil, func() (transport.Connector, error) {
		connector, err := t.Client(tcp, nil)
		if r, ok := connector.(redialer); ok && err == nil {
			r.SetRedial(redial)
		}
		return connector, err
	})
	if err != nil {
		_ = tcp.Close()
		if over(hctx) != nil && over(ctx) == nil {
			err = transport.ErrHandshakeTimeout
		}
		return nil, err
	}
	if samePorts {
		_ = tcp.SetLinger(-1)
	}
	return c, nil
}

// connect sets up the stream over a connection in the making.
func connect(ctx context.Context, conf *rdmanet.Config, open func() (transport.Connector, error)) (*rdmanet.Conn, error) {
	connector, err := open()
	if err != nil {
		return nil, err
	}
	c, err := rdmanet.Client(ctx, connector, conf)
	if err != nil {
		_ = connector.Close()
		return nil, err
	}
	return c, nil
}

// bare takes off the outer *net.OpError, which the caller puts on with its own fields.
func bare(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

func hasPort(a net.Addr) bool {
	t, ok := a.(*net.TCPAddr)
	return ok && t != nil && t.Port != 0
}
