package rdmanet_test

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rdmanet/iwarp/rdmanet"
	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/soft"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// limit bounds every wait of a test. It is only met by a failure.
const limit = 20 * time.Second

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	return ctx
}

// A setting is what two ends are told.
type setting struct {
	name           string
	client, server rdmanet.Config
	restricted     bool // both ends see a transport that needs memory for all it sends and receives
	revision       int  // of MPA
}

// settings are the combinations that behaviour must not depend on.
var settings = []setting{
	{name: "extended"},
	{name: "plain", client: rdmanet.Config{Plain: true}, server: rdmanet.Config{Plain: true}},
	{name: "plain client", client: rdmanet.Config{Plain: true}},
	{name: "plain server", server: rdmanet.Config{Plain: true}},
	{name: "revision 1", revision: 1},
	{name: "small rings", client: rdmanet.Config{RingSize: 4096, Credits: 16}, server: rdmanet.Config{RingSize: 5000, Credits: 17}},
	{name: "restricted", restricted: true},
	{name: "restricted plain", restricted: true, client: rdmanet.Config{Plain: true}},
}

// ends are the two Conns of a connection: the active one, a, and the passive one, b.
type ends struct{ a, b *rdmanet.Conn }

// restricted is a queue pair as an RNIC's is: it places into memory only, and takes little data inline.
type restricted struct{ transport.QueuePair }

func (q restricted) Attributes() transport.Attributes {
	a := q.QueuePair.Attributes()
	a.MaxInline = 64
	return a
}

func (q restricted) PostSend(wrs []transport.SendWR) (int, error) {
	for i := range wrs {
		if wrs[i].Flags&transport.Inline != 0 && len(wrs[i].Data) > 64 {
			panic("inline request is too long for this transport")
		}
	}
	return q.QueuePair.PostSend(wrs)
}

type restrictedConnector struct{ transport.Connector }

func (c restrictedConnector) QueuePair() transport.QueuePair {
	return restricted{c.Connector.QueuePair()}
}

type restrictedRequest struct{ transport.Request }

func (r restrictedRequest) QueuePair() transport.QueuePair { return restricted{r.Request.QueuePair()} }

// handshake connects two queue pairs over loopback and returns what Client and Server need.
func handshake(t testing.TB, s setting, o *transport.Options) (transport.Connector, func() transport.Request) {
	t.Helper()
	ctx := testContext(t)
	soft := soft.New(&soft.Config{Revision: s.revision})
	ln, err := soft.Listen(ctx, netip.MustParseAddrPort("127.0.0.1:0"), o)
	require.NoError(t, err)
	k, err := soft.Dial(ctx, netip.AddrPort{}, ln.Addr(), o)
	require.NoError(t, err)
	accept := func() transport.Request {
		defer ln.Close()
		r, err := ln.Accept(ctx)
		require.NoError(t, err)
		if s.restricted {
			return restrictedRequest{r}
		}
		return r
	}
	if s.restricted {
		return restrictedConnector{k}, accept
	}
	return k, accept
}

// connect makes a connection over soft iWARP on loopback. It is closed at the end of the test.
func connect(t testing.TB, s setting) ends {
	t.Helper()
	e, err := tryConnect(t, s)
	require.NoError(t, err)
	t.Cleanup(func() {
		e.a.Close()
		e.b.Close()
	})
	return e
}

func tryConnect(t testing.TB, s setting) (e ends, err error) {
	t.Helper()
	ctx := testContext(t)
	k, accept := handshake(t, s, nil)
	done := make(chan error, 1)
	go func() {
		var err error
		e.a, err = rdmanet.Client(ctx, k, &s.client)
		done <- err
	}()
	e.b, err = rdmanet.Server(ctx, accept(), &s.server)
	if cerr := <-done; err == nil {
		err = cerr
	}
	return e, err
}
