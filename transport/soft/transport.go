package soft

import (
	"context"
	"errors"
	"net"
	"net/netip"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/soft/internal/mpa"
)

const deviceName = "soft"

// A Transport makes software iWARP connections. It is stateless: use one or many.
type Transport struct{ cfg Config }

var (
	_ transport.Upgrader = (*Transport)(nil)
	_ transport.Redialer = (*connector)(nil)
)

// New returns a Transport with the given configuration, which is copied. A nil c means the
// defaults.
func New(c *Config) *Transport { return &Transport{cfg: c.withDefaults()} }

// Name returns "soft".
func (t *Transport) Name() string { return deviceName }

// Offloads returns false: the kernel's TCP carries the connection.
func (t *Transport) Offloads() bool { return false }

// Devices returns the one device that is always there.
func (t *Transport) Devices() ([]transport.Device, error) { return []transport.Device{device}, nil }

var device = transport.Device{Name: deviceName, Transport: deviceName}

// Route returns the software device: the kernel routes.
func (t *Transport) Route(context.Context, netip.AddrPort, netip.AddrPort) (transport.Device, error) {
	return device, nil
}

// Dial implements transport.Transport.
func (t *Transport) Dial(ctx context.Context, local, remote netip.AddrPort, o *transport.Options) (transport.Connector, error) {
	var d net.Dialer
	d.SetMultipathTCP(false)
	if local.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(local)
	}
	dial := func(ctx context.Context) (*net.TCPConn, error) {
		c, err := d.DialContext(ctx, "tcp", remote.String())
		if err != nil {
			return nil, err
		}
		return c.(*net.TCPConn), nil
	}
	c, err := dial(ctx)
	if err != nil {
		return nil, err
	}
	conn, err := t.Client(c, o)
	if err != nil {
		return nil, err
	}
	conn.(*connector).SetRedial(dial)
	return conn, nil
}

// Client prepares iWARP as the initiator on an established connection, which from then on belongs
// to the Connector; on an error it is closed. Nothing must have been sent or received on it. The
// Connector is a transport.Redialer, with which Connect tries revision 1 on a new connection when
// the peer resets the first one.
func (t *Transport) Client(c *net.TCPConn, o *transport.Options) (transport.Connector, error) {
	q, err := newQueuePair(c, &t.cfg, o)
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	return &connector{q: q}, nil
}

type connector struct {
	q      *queuePair
	redial func(context.Context) (*net.TCPConn, error)
	room   room
}

func (c *connector) QueuePair() transport.QueuePair { return c.q }

// SetRedial implements transport.Redialer.
func (c *connector) SetRedial(f func(context.Context) (*net.TCPConn, error)) { c.redial = f }

func (c *connector) Connect(ctx context.Context, private []byte) ([]byte, error) {
	if err := c.q.mayBegin(); err != nil {
		return nil, err
	}
	reply, err := c.q.initiate(ctx, uint8(c.q.cfg.Revision), private, &c.room)
	if err != nil && isReset(err) && c.redial != nil && c.q.cfg.Revision > int(mpa.Rev1) {
		// Peers that know only revision 1 answer a newer request with a reset (RFC 6581 §8).
		c.q.closeSock() // sets its port free, which may be wanted
		var again *net.TCPConn
		if again, err = c.redial(ctx); err == nil {
			if err = c.q.reconnect(again); err == nil {
				reply, err = c.q.initiate(ctx, mpa.Rev1, private, &c.room)
			}
		}
	}
	if err != nil {
		_ = c.q.Close()
		return nil, handshakeError(err)
	}
	return reply.PrivateData, nil
}

func (c *connector) Close() error {
	if c.q.Ready() == nil {
		return nil
	}
	return c.q.Close()
}

// handshakeError names what a failure during the set-up says about the peer.
func handshakeError(err error) error {
	var frame *mpa.Error
	switch {
	case errors.As(err, &frame), errors.Is(err, errNotMPA), isEnd(err), isReset(err):
		return &transport.NotIWARPError{Cause: err}
	}
	return err
}
