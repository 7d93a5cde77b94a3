package iwarp_test

import (
	"context"
	"net"
	"net/netip"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/soft"
)

// poorRequest is one for which there is no memory, or something else.
type poorRequest struct {
	transport.Request
	err error
}

func (r poorRequest) QueuePair() transport.QueuePair { return poorQP{r.Request.QueuePair(), r.err} }

type poorQP struct {
	transport.QueuePair
	err error
}

func (q poorQP) RegisterPlacer(uint64, transport.Placer) (transport.MemoryRegion, error) {
	return nil, q.err
}

// poorSoft is iWARP in software with such requests, poorNIC a device.
type (
	poorSoft struct {
		*soft.Transport
		err error
	}
	poorNIC struct {
		*nic
		err error
	}
	poorListener struct {
		transport.Listener
		err error
	}
)

func (s poorSoft) Server(ctx context.Context, c *net.TCPConn, o *transport.Options) (transport.Request, error) {
	r, err := s.Transport.Server(ctx, c, o)
	return poorRequest{r, s.err}, err
}

func (n poorNIC) Listen(ctx context.Context, local netip.AddrPort, o *transport.Options) (transport.Listener, error) {
	l, err := n.nic.Listen(ctx, local, o)
	return poorListener{l, n.err}, err
}

func (l poorListener) Accept(ctx context.Context) (transport.Request, error) {
	r, err := l.Listener.Accept(ctx)
	return poorRequest{r, l.err}, err
}

// TestRefusalSaysWhy has a client know why the listener has refused it, and both ends tell the same
// of the plain connection that follows.
func TestRefusalSaysWhy(t *testing.T) {
	for _, tt := range []struct {
		err    error
		reason iwarp.Reason
		text   string
	}{
		{syscall.ENOMEM, iwarp.ReasonLimit, "peer: limit"},
		{syscall.EPERM, iwarp.ReasonLimit, "peer: limit"},
		{transport.ErrNoDevice, iwarp.ReasonNoDevice, "peer: no device"},
		{errTest, iwarp.ReasonFailed, "peer: set-up failed"},
	} {
		n := newNIC()
		for name, transports := range map[string]struct{ client, server []transport.Transport }{
			"software": {server: []transport.Transport{poorSoft{soft.New(nil), tt.err}}},
			"device":   {[]transport.Transport{n}, []transport.Transport{poorNIC{n, tt.err}}},
		} {
			t.Run(name+" "+tt.err.Error(), func(t *testing.T) {
				iwarp.ForgetPeers()
				l := listen(t, iwarp.ListenConfig{Transports: transports.server})
				for range 2 {
					c, s := meet(t, l, func() net.Conn {
						c, err := (&iwarp.Dialer{Offload: iwarp.OffloadPrefer, Transports: transports.client}).Dial("tcp", l.Addr().String())
						require.NoError(t, err)
						t.Cleanup(func() { _ = c.Close() })
						go func() { _, _ = c.Write([]byte("hello")) }()
						return c
					})
					require.IsType(t, (*net.TCPConn)(nil), c)
					info := describe(t, c)
					require.Equal(t, iwarp.ReasonDeclined, info.Reason)
					require.EqualError(t, info.Err, tt.text)
					require.ErrorIs(t, info.Err, syscall.ECONNREFUSED)
					require.Contains(t, info.LogValue().String(), "reason=peer declined error="+tt.text[len("peer: "):])
					require.Equal(t, tt.reason, describe(t, s).Reason)
					require.ErrorIs(t, describe(t, s).Err, tt.err)
				}
				require.Equal(t, iwarp.ReasonNotIWARP, describe(t, func() net.Conn {
					_, s := meet(t, l, func() net.Conn {
						c := dialTCP(t, l)
						_, err := c.Write([]byte("hello"))
						require.NoError(t, err)
						return c
					})
					return s
				}()).Reason, "which was not refused")

				_, err := (&iwarp.Dialer{Offload: iwarp.OffloadRequire, Transports: transports.client, Timeout: patience}).Dial("tcp", l.Addr().String())
				require.ErrorContains(t, err, "offload required: peer declined: "+tt.text[len("peer: "):])
			})
		}
	}
}

// fullNIC is a device whose listeners have room for no request.
type fullNIC struct{ *nic }

type fullListener struct {
	transport.Listener
	refusal func(remote netip.AddrPort, request []byte) []byte
}

func (n fullNIC) Listen(ctx context.Context, local netip.AddrPort, o *transport.Options) (transport.Listener, error) {
	l, err := n.nic.Listen(ctx, local, o)
	return &fullListener{Listener: l}, err
}

func (l *fullListener) SetRefusal(f func(remote netip.AddrPort, request []byte) []byte) {
	l.refusal = f
}

func (l *fullListener) Accept(ctx context.Context) (transport.Request, error) {
	for {
		r, err := l.Listener.Accept(ctx)
		if err != nil {
			return nil, err
		}
		remote := r.QueuePair().RemoteAddr()
		for _, strange := range []string{"", "iWAR", string(make([]byte, 40))} {
			if l.refusal(netip.MustParseAddrPort("192.0.2.1:1"), []byte(strange)) != nil {
				return nil, errTest
			}
		}
		if err := r.Reject(l.refusal(remote, r.PrivateData())); err != nil {
			return nil, err
		}
	}
}

// TestRefusalOfSurplus has the client of a device that was one too many know that, and both ends
// tell the same of the plain connection that follows.
func TestRefusalOfSurplus(t *testing.T) {
	iwarp.ForgetPeers()
	n := newNIC()
	l := listen(t, iwarp.ListenConfig{Transports: []transport.Transport{fullNIC{n}, soft.New(nil)}})
	client := []transport.Transport{n}
	c, s := meet(t, l, func() net.Conn {
		c, err := (&iwarp.Dialer{Offload: iwarp.OffloadPrefer, Transports: client}).Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		t.Cleanup(func() { _ = c.Close() })
		_, err = c.Write([]byte("hello"))
		require.NoError(t, err)
		return c
	})
	info := describe(t, c)
	require.Equal(t, iwarp.ReasonDeclined, info.Reason)
	require.EqualError(t, info.Err, "peer: limit")
	require.Equal(t, iwarp.ReasonLimit, describe(t, s).Reason)
	require.EqualValues(t, 4, l.Stats().Overflowed, "with three strangers")

	d := iwarp.Dialer{Offload: iwarp.OffloadRequire, Transports: client, Timeout: patience}
	_, err := d.Dial("tcp", l.Addr().String())
	require.ErrorContains(t, err, "offload required: peer declined: limit")
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
}

// TestRefusalOfStrangers takes no bytes of a refusal for more than they are.
func TestRefusalOfStrangers(t *testing.T) {
	for data, text := range map[string]string{
		"iWAR\x01\x00\x04\x01\x03":               "peer declined: limit",
		"iWAR\x01\x00\x04\x01\x4d":               "peer declined: reason 77",
		"iWAR\x01\x00\x09\x02ab\x04\x01\x01\x00": "peer declined: policy never",
		"iWAR\x01\x00\x04\x01\x00":               "peer declined",
		"iWAR\x01\x00":                           "peer declined",
		"iWAR\x01\x00\x04\x02\x01\x01":           "peer declined",
		"iWAR\x01\x00\x04":                       "peer declined",
		"\x1b[31mgo away":                        "peer declined",
		"":                                       "peer declined",
	} {
		iwarp.ForgetPeers()
		addr := rejecting(t, func(uint16) []byte { return []byte(data) })
		d := iwarp.Dialer{Offload: iwarp.OffloadRequire, Timeout: patience}
		_, err := d.Dial("tcp", addr.String())
		require.EqualError(t, err, "dial tcp "+addr.String()+": offload required: "+text, "%q", data)
		require.ErrorIs(t, err, syscall.ECONNREFUSED)
	}
}

// TestRefusalOfSoftware has both ends say that the listener's settings are why a client of software
// is refused.
func TestRefusalOfSoftware(t *testing.T) {
	rnics(t, func(t *testing.T, _ *rnic, nic transport.Transport) {
		l := listen(t, iwarp.ListenConfig{Transports: []transport.Transport{nic}})
		c, s := meet(t, l, func() net.Conn {
			c, err := (&iwarp.Dialer{Offload: iwarp.OffloadPrefer}).Dial("tcp", l.Addr().String())
			require.NoError(t, err)
			t.Cleanup(func() { _ = c.Close() })
			go func() { _, _ = c.Write([]byte("hello")) }()
			return c
		})
		require.Equal(t, iwarp.ReasonDeclined, describe(t, c).Reason)
		require.EqualError(t, describe(t, c).Err, "peer: policy never")
		require.Equal(t, iwarp.ReasonPolicy, describe(t, s).Reason)
		require.ErrorContains(t, describe(t, s).Err, "client wants iwarp in software")
	})
}
