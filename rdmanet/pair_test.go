package rdmanet_test

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/internal/testkit"
	"github.com/rdmanet/iwarp/internal/testkit/leak"
	"github.com/rdmanet/iwarp/rdmanet"
	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/soft"
)

func TestMain(m *testing.M) { leak.Main(m) }

// limit bounds every wait of a test. It is only met by a failure.
const limit = testkit.Patience

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
	shallow        bool // its send queue takes few requests at a time
	device         bool // it is a restricted transport that brings the memory
	immediate      bool // it is a device, with RDMA Write with Immediate
	onlyServer     bool // only the server's transport is of that kind
	revision       int  // of MPA
	poll           time.Duration
	alwaysCRC      bool // CRC is not left out although both ends are on one host

	wrap func(transport.QueuePair) transport.QueuePair // both queue pairs, if not nil
}

// settings are the combinations that behaviour must not depend on.
var settings = []setting{
	{name: "extended"},
	{name: "plain", client: rdmanet.Config{Plain: true}, server: rdmanet.Config{Plain: true}},
	{name: "plain client", client: rdmanet.Config{Plain: true}},
	{name: "plain server", server: rdmanet.Config{Plain: true}},
	{name: "revision 1", revision: 1},
	{name: "polling", poll: 50 * time.Microsecond},
	{name: "small rings", client: rdmanet.Config{RingSize: 4096, Credits: 16}, server: rdmanet.Config{RingSize: 5000, Credits: 17}},
	{name: "restricted", restricted: true},
	{name: "shallow", restricted: true, shallow: true},
	{name: "restricted plain", restricted: true, client: rdmanet.Config{Plain: true}},
	{name: "device", device: true},
	{name: "device server", device: true, onlyServer: true},
	{name: "immediate", immediate: true},
	{name: "immediate plain", immediate: true, server: rdmanet.Config{Plain: true}},
}

// restricted is a queue pair as an RNIC's is: it places into memory only, and takes little data
// inline.
type restricted struct {
	transport.QueuePair
	shallow bool
}

func (q restricted) Attributes() transport.Attributes {
	a := q.QueuePair.Attributes()
	if !q.shallow {
		a.MaxInline = 64
	}
	return a
}

func (q restricted) PostSend(wrs []transport.SendWR) (int, error) {
	if few := 3; q.shallow && len(wrs) > few {
		n, err := q.QueuePair.PostSend(wrs[:few])
		if err == nil {
			err = transport.ErrQueueFull
		}
		return n, err
	}
	for i := range wrs {
		if q.shallow {
			break
		}
		if wrs[i].Flags&transport.Inline != 0 && len(wrs[i].Data) > 64 {
			panic("inline request is too long for this transport")
		}
	}
	return q.QueuePair.PostSend(wrs)
}

type otherConnector struct {
	transport.Connector
	qp transport.QueuePair
}

func (c otherConnector) QueuePair() transport.QueuePair { return c.qp }

type otherRequest struct {
	transport.Request
	qp transport.QueuePair
}

func (r otherRequest) QueuePair() transport.QueuePair { return r.qp }

// over returns the queue pair that a setting puts over qp.
func (s *setting) over(qp transport.QueuePair) transport.QueuePair {
	switch {
	case s.wrap != nil:
		return s.wrap(qp)
	case s.immediate:
		return newImmediate(qp)
	case s.device:
		return newDevice(qp)
	case s.restricted:
		return restricted{qp, s.shallow}
	}
	return qp
}

// A below is an iWARP connection in the making over loopback, with the TCP connections that carry
// it.
type below struct {
	k          transport.Connector
	accept     func() (transport.Request, error)
	tcpA, tcpB *net.TCPConn
}

func prepare(t testing.TB, s setting, o *transport.Options) below {
	t.Helper()
	a, b := connectTCP(t)
	t2 := soft.New(&soft.Config{Revision: s.revision, AlwaysCRC: s.alwaysCRC, Poll: s.poll})
	k, err := t2.Client(a, o)
	require.NoError(t, err)
	n := below{k: k, tcpA: a, tcpB: b}
	n.accept = func() (transport.Request, error) {
		r, err := t2.Server(testContext(t), b, o)
		if err != nil {
			return nil, err
		}
		return otherRequest{r, s.over(r.QueuePair())}, nil
	}
	n.k = k
	if !s.onlyServer {
		n.k = otherConnector{k, s.over(k.QueuePair())}
	}
	return n
}

func connectTCP(t testing.TB) (a, b *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	d, err := ln.Accept()
	require.NoError(t, err)
	return c.(*net.TCPConn), d.(*net.TCPConn)
}

// ends are the two Conns of a connection: the active one, a, and the passive one, b.
type ends struct {
	a, b *rdmanet.Conn
	below
}

// connect makes a connection over soft iWARP on loopback. It is closed at the end of the test.
func connect(t testing.TB, s setting) ends {
	t.Helper()
	return connectBelow(t, prepare(t, s, nil), s)
}

// connectBelow is connect over what prepare has made.
func connectBelow(t testing.TB, n below, s setting) ends {
	t.Helper()
	e, err := tryConnectBelow(t, n, s)
	require.NoError(t, err)
	t.Cleanup(func() {
		e.a.Close()
		e.b.Close()
	})
	return e
}

func tryConnect(t testing.TB, s setting) (ends, error) {
	t.Helper()
	return tryConnectBelow(t, prepare(t, s, nil), s)
}

func tryConnectBelow(t testing.TB, n below, s setting) (e ends, err error) {
	t.Helper()
	ctx := testContext(t)
	e.below = n
	done := make(chan error, 1)
	go func() {
		var err error
		e.a, err = rdmanet.Client(ctx, e.k, &s.client)
		done <- err
	}()
	r, err := e.accept()
	if err == nil {
		e.b, err = rdmanet.Server(ctx, r, &s.server)
	}
	if cerr := <-done; err == nil {
		err = cerr
	}
	return e, err
}

// forSettings runs a test for every setting, and with the ends in both roles.
func forSettings(t *testing.T, test func(t *testing.T, x, y *rdmanet.Conn)) {
	for _, s := range settings {
		t.Run(s.name+"/active", func(t *testing.T) {
			e := connect(t, s)
			test(t, e.a, e.b)
		})
		t.Run(s.name+"/passive", func(t *testing.T) {
			e := connect(t, s)
			test(t, e.b, e.a)
		})
	}
}

// pattern returns n bytes of a fixed stream.
func pattern(n int) []byte {
	b := make([]byte, n)
	rnd := rand.New(rand.NewPCG(7, 7))
	for i := 0; i+8 <= n; i += 8 {
		binary.LittleEndian.PutUint64(b[i:], rnd.Uint64())
	}
	return b
}

// within fails the test if f takes longer than limit, and returns what f returned.
func within[T any](t testing.TB, f func() T) T {
	t.Helper()
	return testkit.Within(t, f)
}

// background runs f and returns a function that waits for it.
var background = testkit.Background
