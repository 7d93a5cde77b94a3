package soft_test

import (
	"context"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/soft"
	"github.com/rdmanet/iwarp/transport/soft/internal/mpa"
)

func listen(t testing.TB, cfg *soft.Config) transport.Listener {
	t.Helper()
	ln, err := soft.New(cfg).Listen(testContext(t), netip.MustParseAddrPort("127.0.0.1:0"), nil)
	require.NoError(t, err)
	t.Cleanup(func() { ln.Close() })
	return ln
}

func knock(t testing.TB, ln transport.Listener, sent []byte) *rawPeer {
	t.Helper()
	c, err := net.DialTCP("tcp4", nil, net.TCPAddrFromAddrPort(ln.Addr()))
	require.NoError(t, err)
	p := rawConn(t, c)
	p.write(sent)
	return p
}

// closed expects the end of the stream, orderly or not.
func (p *rawPeer) closed() {
	p.t.Helper()
	b, err := io.ReadAll(p.c)
	require.Empty(p.t, b)
	if err != nil {
		require.ErrorIs(p.t, err, syscall.ECONNRESET)
	}
}

func TestAcceptReturnsNoPeersFailure(t *testing.T) {
	ln := listen(t, nil)
	knock(t, ln, []byte("GET / HTTP/1.1\r\n\r\n")).closed()
	knock(t, ln, start(requestKey, 0x40, 1, make([]byte, 600))).closed()
	silent := knock(t, ln, nil)
	half := knock(t, ln, []byte("MPA ID"))
	p := knock(t, ln, start(requestKey, 0x40, 1, []byte("good")))
	req, err := ln.Accept(testContext(t))
	require.NoError(t, err)
	require.Equal(t, "good", string(req.PrivateData()))
	require.Equal(t, ln.Addr(), req.QueuePair().LocalAddr())
	require.NoError(t, ln.Close())
	silent.closed()
	half.closed()
	// The request lives on.
	require.NoError(t, req.Accept(testContext(t), nil))
	p.frame(true)
	require.NoError(t, p.c.CloseWrite())
	require.Equal(t, io.EOF, req.QueuePair().Wait(soon()))
	require.NoError(t, req.QueuePair().Close())
}

// However many silent clients there are, one that speaks is served. The oldest gives way to it by a
// reset, not for its age.
func TestSilentClientsGiveWay(t *testing.T) {
	ln := listen(t, &soft.Config{MaxHalfOpen: 2, RequestTimeout: time.Hour})
	silent := []*rawPeer{knock(t, ln, nil), knock(t, ln, []byte("MPA ID Req"))}
	for range 3 {
		p := knock(t, ln, start(requestKey, 0x40, 1, nil))
		_, err := silent[0].c.Read(make([]byte, 1))
		require.ErrorIs(t, err, syscall.ECONNRESET)
		req, err := ln.Accept(testContext(t))
		require.NoError(t, err)
		require.NoError(t, req.Reject(nil))
		require.NotZero(t, p.frame(true).Flags&mpa.FlagReject)
		silent = append(silent[1:], knock(t, ln, nil))
	}
}

// Requests that wait for Accept are served in the order in which they came, however many more come.
func TestRequestsDoNotGiveWay(t *testing.T) {
	defer soft.SetRequestGrace(time.Hour)() // the listener gets to them sooner or later
	ln := listen(t, &soft.Config{MaxHalfOpen: 2, RequestTimeout: time.Hour})
	const clients = 6
	for i := range clients {
		knock(t, ln, start(requestKey, 0x40, 1, []byte{byte(i)}))
	}
	var seen []byte
	for range clients {
		req, err := ln.Accept(testContext(t))
		require.NoError(t, err)
		seen = append(seen, req.PrivateData()...)
		require.NoError(t, req.Reject(nil))
	}
	require.ElementsMatch(t, []byte{0, 1, 2, 3, 4, 5}, seen)
}

func TestListenerClose(t *testing.T) {
	ln := listen(t, nil)
	waiting := make(chan error, 1)
	go func() {
		_, err := ln.Accept(context.Background())
		waiting <- err
	}()
	silent := knock(t, ln, nil)
	require.NoError(t, ln.Close())
	require.ErrorIs(t, <-waiting, net.ErrClosed)
	silent.closed()
	_, err := ln.Accept(context.Background())
	require.ErrorIs(t, err, net.ErrClosed)
	require.ErrorIs(t, ln.Close(), net.ErrClosed)
}

// A request that nobody accepts any more is told so.
func TestListenerCloseWithARequestPending(t *testing.T) {
	ln := listen(t, nil)
	pending := knock(t, ln, start(requestKey, 0x40, 1, nil))
	_, err := soft.New(nil).Listen(context.Background(), ln.Addr(), nil)
	require.ErrorIs(t, err, syscall.EADDRINUSE)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	// Wait until the listener has it: the request that is accepted is the first.
	other := knock(t, ln, start(requestKey, 0x40, 1, nil))
	req, err := ln.Accept(testContext(t))
	require.NoError(t, err)
	require.NoError(t, req.Reject(nil))
	require.NoError(t, ln.Close())
	for _, p := range []*rawPeer{pending, other} {
		b, err := io.ReadAll(p.c)
		if err == nil && len(b) > 0 {
			require.Equal(t, start(replyKey, 0x60, 1, nil)[:18], b[:18])
		}
	}
	_, err = ln.Accept(ctx)
	require.Error(t, err)
}

func TestAcceptCancelled(t *testing.T) {
	ln := listen(t, nil)
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(time.Millisecond, cancel)
	_, err := ln.Accept(ctx)
	require.Equal(t, context.Canceled, err)
}

func TestTransport(t *testing.T) {
	tr := soft.New(nil)
	require.Equal(t, "soft", tr.Name())
	require.False(t, tr.Offloads())
	devices, err := tr.Devices()
	require.NoError(t, err)
	require.Len(t, devices, 1)
	d, err := tr.Route(context.Background(), netip.AddrPort{}, netip.MustParseAddrPort("127.0.0.1:1"))
	require.NoError(t, err)
	require.Equal(t, devices[0], d)
	require.Equal(t, "soft", d.Transport)
}
