package iwarp

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"

	"github.com/rdmanet/iwarp/internal/bound"
	"github.com/rdmanet/iwarp/internal/neterr"
	"github.com/rdmanet/iwarp/internal/ports"
	"github.com/rdmanet/iwarp/internal/redirect"
	"github.com/rdmanet/iwarp/rdmanet"
	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/soft"
)

// findPort connects to the port where the peer's device listens: the one dialed, unless the peer is
// known to have another for its device or says so in its answer, which is then remembered for
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

var errNoPeerDevice = errors.New("peer: no device")

// ask uses iWARP in software to ask the peer for the port of its device. It is for siw, which must
// not be the first to talk to a port: where something other than an MPA reply comes back, its
// kernel (Linux 6.1) follows a nil pointer. It is also for erdma, whose request a server in
// software does not understand, as the MPA of the two is not the same.
//
// A peer that has no device to redirect to may take the connection instead, which will do if the
// policy allows it. If it does not, only an rsocket takes it, which may well listen through a
// device on the very port.
func (d *deviceDial) ask(ctx context.Context) (*rdmanet.Conn, Info, error) {
	software, useful := d.software, d.policy != OffloadAuto
	if software == nil {
		software, useful = soft.New(nil), false
	}
	k := redirect.Connector{Takes: redirect.StreamOrTo}
	if !useful {
		k.Takes = redirect.OnlyTo
	}
	c, err := d.inSoftware(ctx, software, k)
	var to *redirect.To
	var refused *transport.RejectedError
	switch {
	case errors.As(err, &refused) && !errors.As(err, &to) && !useful && !passing(err):
		return nil, Info{}, &OffloadError{ReasonDeclined, errNoPeerDevice}
	case err != nil:
		d.learn(peer{software.Name(), d.remote}, err, proves(err), d.began)
		return nil, Info{}, err
	case useful:
		peers.spoke(peer{software.Name(), d.remote}, time.Now())
		return c, Info{Transport: software.Name(), Device: c.Attributes().Device, Offloaded: software.Offloads()}, nil
	}
	_ = c.Close()
	c, err = d.attempt(ctx, d.remote.Port(), redirect.Connector{})
	return c, d.info(0), err
}

// passing reports whether a server has refused for what may have passed a moment later.
func passing(err error) bool {
	var r *redirect.Refused
	return errors.As(err, &r) && (r.Why == redirect.WhyLimit || r.Why == redirect.WhyFailed)
}

// inSoftware connects to the peer's port of the service without the device. It comes from a port
// that is held for that, as there may be few left to choose from.
func (d *deviceDial) inSoftware(ctx context.Context, software kernelTransport, k redirect.Connector) (*rdmanet.Conn, error) {
	return d.fromHeldPort(ctx, d.remote, false, func(q *deviceQP) (*rdmanet.Conn, error) {
		d.began = time.Now()
		tcp, err := d.beside(ctx, q.port)
		if err != nil {
			return nil, err
		}
		return d.upgradeOnce(ctx, software, tcp, time.Since(d.began), k)
	})
}

// beside connects a socket of its own from the port that is held.
func (d *deviceDial) beside(ctx context.Context, held *ports.Endpoint) (*net.TCPConn, error) {
	shut, err := held.Admit()
	if err != nil {
		return nil, err
	}
	defer shut()
	n := d.netDialer()
	n.LocalAddr = net.TCPAddrFromAddrPort(held.AddrPort())
	n.ControlContext = func(ctx context.Context, network, address string, c syscall.RawConn) error {
		if err := bound.ShareAddress(c); err != nil {
			return err
		}
		return d.control(ctx, network, address, c)
	}
	hctx, cancel := d.handshake(ctx) // or there would be no time left for the other addresses of the peer
	defer cancel()
	c, err := n.DialContext(hctx, d.network, d.remote.String())
	if err != nil {
		return nil, inTime(ctx, hctx, err)
	}
	return c.(*net.TCPConn), nil
}

// upgradeOnce makes an iWARP connection of tcp. What is refused leaves nothing behind, as the
// device gets the port next.
func (d *deviceDial) upgradeOnce(ctx context.Context, software kernelTransport, tcp *net.TCPConn, took time.Duration, k redirect.Connector) (*rdmanet.Conn, error) {
	d.began = time.Now()
	spoke := peers.speaks(peer{software.Name(), d.remote}, d.began)
	hctx := d.answer(ctx, tcp, tripOf(tcp, took), spoke)
	defer hctx.stop()
	_ = tcp.SetLinger(0)
	defer assistDial(tcp).stop()
	var c *rdmanet.Conn
	var err error
	if k.Connector, err = software.Client(tcp, nil); err == nil {
		c, err = d.Dialer.stream(&hctx.Context, &k)
	}
	if err != nil {
		_ = tcp.Close()
		return nil, inTime(ctx, hctx, err)
	}
	_ = tcp.SetLinger(-1)
	return c, nil
}
