//go:build unix

package iwarpgrpc_test

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/soft"
)

// limit tells a hang from an end.
const limit = time.Minute

// only has the tests take the same paths on every machine.
var only = []transport.Transport{soft.New(nil)}

// counted tells when gRPC has begun with all that it has accepted. GracefulStop closes connections
// with which it has not, whatever their listener.
type counted struct {
	*iwarp.Listener
	begun sync.WaitGroup
}

func (l *counted) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.begun.Add(1)
	}
	return c, err
}

// counting are credentials that tell a listener of each handshake.
type counting struct {
	credentials.TransportCredentials
	l *counted
}

func (c counting) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	c.l.begun.Done()
	return c.TransportCredentials.ServerHandshake(conn)
}

func (c counting) Clone() credentials.TransportCredentials {
	return counting{c.TransportCredentials.Clone(), c.l}
}

// A generation is one server of those that follow each other on a port.
type generation struct {
	grpc_health_v1.UnimplementedHealthServer

	server *grpc.Server
	l      *counted
	served chan error
	calls  atomic.Int64
	busy   chan struct{} // closed by the call that is enough
}

// enough calls show that clients have found a generation.
const enough = 25

func (g *generation) Check(context.Context, *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	if g.calls.Add(1) == enough {
		close(g.busy)
	}
	return &grpc_health_v1.HealthCheckResponse{}, nil
}

func begin(t *testing.T, ports *iwarp.PortSpace, address string) *generation {
	l, err := (&iwarp.ListenConfig{PortSpace: ports, Transports: only}).Listen(t.Context(), "tcp", address)
	require.NoError(t, err)
	c := &counted{Listener: l.(*iwarp.Listener)}
	s := grpc.NewServer(grpc.Creds(counting{insecure.NewCredentials(), c}))
	g := &generation{server: s, l: c, served: make(chan error, 1), busy: make(chan struct{})}
	grpc_health_v1.RegisterHealthServer(s, g)
	go func() { g.served <- s.Serve(c) }()
	t.Cleanup(g.server.Stop)
	return g
}

// next hands the socket over, as to another process.
func (g *generation) next(t *testing.T) *generation {
	f, err := g.l.File()
	require.NoError(t, err)
	defer f.Close()
	var ports iwarp.PortSpace
	r, err := ports.Adopt(f)
	require.NoError(t, err)
	return begin(t, &ports, r.Addr().String())
}

// end stops a server that has handed its socket over, as docs/grpc.md says.
func (g *generation) end(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	require.NoError(t, g.l.Drain(ctx))
	var err error
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		err = <-g.served
		g.l.begun.Wait()
		g.server.GracefulStop()
	}()
	select {
	case <-stopped:
		require.ErrorIs(t, err, net.ErrClosed)
	case <-ctx.Done():
		require.Fail(t, "the server does not end")
	}
}

// A caller calls all the time, by one connection or by a new one for each call.
type caller struct {
	address string
	dialer  *iwarp.Dialer
	keep    bool
	calls   int
	err     error // the first one
}

func (c *caller) run(ctx context.Context) {
	for ctx.Err() == nil && c.err == nil {
		c.err = c.connect(ctx)
	}
}

// connect ends with the context or, unless the connection is to be kept, after a call.
func (c *caller) connect(ctx context.Context) error {
	conn, err := grpc.NewClient("passthrough:///"+c.address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return c.dialer.DialContext(ctx, "tcp", address)
		}))
	if err != nil {
		return err
	}
	defer conn.Close()
	client := grpc_health_v1.NewHealthClient(conn)
	for once := true; ctx.Err() == nil && (once || c.keep); once = false {
		one, cancel := context.WithTimeout(context.Background(), limit) // the last call is not cut short either
		_, err := client.Check(one, &grpc_health_v1.HealthCheckRequest{})
		cancel()
		if err != nil {
			return err
		}
		c.calls++
	}
	return nil
}

// TestRestarts replaces the server under clients that never stop: no call fails.
func TestRestarts(t *testing.T) {
	const restarts = 20
	at := begin(t, &iwarp.PortSpace{}, "127.0.0.1:0")
	address := at.l.Addr().String()

	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	var callers []*caller
	for _, policy := range []iwarp.Offload{iwarp.OffloadNever, iwarp.OffloadPrefer, iwarp.OffloadRequire} {
		for _, keep := range []bool{true, false} {
			d := &iwarp.Dialer{Offload: policy, Transports: only, Timeout: limit, HandshakeTimeout: limit}
			c := &caller{address: address, dialer: d, keep: keep}
			callers = append(callers, c)
			running.Go(func() { c.run(ctx) })
		}
	}
	defer running.Wait()
	defer stop()
	for range restarts {
		await(t, at.busy)
		next := at.next(t)
		at.end(t)
		at = next
	}
	await(t, at.busy)
	stop()
	running.Wait()
	at.end(t)
	for _, c := range callers {
		require.NoError(t, c.err, "%v, keep %v, after %d calls", c.dialer.Offload, c.keep, c.calls)
		require.NotZero(t, c.calls)
	}
}

func await(t *testing.T, done <-chan struct{}) {
	select {
	case <-done:
	case <-time.After(limit):
		require.Fail(t, "no calls come")
	}
}
