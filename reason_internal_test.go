package iwarp

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport"
)

// TestOffloadErrorText says each thing once.
func TestOffloadErrorText(t *testing.T) {
	for want, e := range map[string]OffloadError{
		"peer does not speak iwarp: EOF":                {ReasonNotIWARP, joined{transport.ErrNotIWARP, io.EOF}},
		"peer does not speak iwarp":                     {ReasonNotIWARP, transport.ErrNotIWARP},
		"no rdma device":                                {ReasonNoDevice, transport.ErrNoDevice},
		"handshake timed out":                           {ReasonHandshakeTimeout, transport.ErrHandshakeTimeout},
		"peer declined":                                 {ReasonDeclined, &transport.RejectedError{}},
		"no route through an rdma device: 192.0.2.1:80": {ReasonNoRoute, errors.New(transport.ErrNoRoute.Error() + " 192.0.2.1:80")},
		"set-up failed: connect: connection refused":    whyNot(&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}),
		"policy": {Reason: ReasonPolicy},
	} {
		require.EqualError(t, &e, "offload required: "+want)
	}
}

type joined [2]error

func (j joined) Error() string { return j[0].Error() + ": " + j[1].Error() }

func TestReasonText(t *testing.T) {
	for r := ReasonNone; r <= ReasonAsking; r++ {
		text, err := r.MarshalText()
		require.NoError(t, err)
		var back Reason
		require.NoError(t, back.UnmarshalText(text))
		require.Equal(t, r, back)
	}
	_, err := Reason(200).MarshalText()
	require.Error(t, err)
	require.Error(t, new(Reason).UnmarshalText([]byte("weather")))
	for want, info := range map[string]Info{
		"reason=peer does not speak iwarp error=EOF": plainInfo(ReasonNotIWARP, io.EOF),
		"reason=peer does not speak iwarp error=eof": plainInfo(ReasonNotIWARP, joined{transport.ErrNotIWARP, errors.New("eof")}),
		"reason=handshake timed out":                 plainInfo(ReasonHandshakeTimeout, transport.ErrHandshakeTimeout),
		"reason=peer declined":                       plainInfo(ReasonDeclined, &transport.RejectedError{}),
	} {
		v := info.LogValue()
		require.Equal(t, slog.KindGroup, v.Kind())
		require.Equal(t, "[transport=tcp offloaded=false "+want+"]", v.String())
	}
}

type embeds struct{ net.Conn }

type unwraps struct {
	net.Conn
	inner net.Conn
}

func (u unwraps) Unwrap() net.Conn { return u.inner }

// hides has the addresses of a connection, and nothing else that shows it.
type hides struct {
	net.Conn
	local, remote net.Addr
}

func (h hides) NetConn() net.Conn    { return nil }
func (h hides) LocalAddr() net.Addr  { return h.local }
func (h hides) RemoteAddr() net.Addr { return h.remote }

// TestDescribeWrapped finds connections below those of others.
func TestDescribeWrapped(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	c, err := (&Dialer{Offload: OffloadNever}).Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	for _, w := range []net.Conn{embeds{c}, &embeds{embeds{c}}, unwraps{inner: c}, hides{local: c.LocalAddr(), remote: c.RemoteAddr()}} {
		info, ok := Describe(w)
		require.True(t, ok, "%T", w)
		require.Equal(t, plainInfo(ReasonPolicy, nil), info)
	}
	for _, w := range []net.Conn{embeds{}, hides{local: c.RemoteAddr(), remote: c.LocalAddr()}, &embeds{}} {
		require.NotPanics(t, func() {
			_, ok := Describe(w)
			require.False(t, ok)
		}, "%T", w)
	}
}
