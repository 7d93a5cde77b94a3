package iwarp_test

import (
	"context"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
)

// TestHooks dials through each shape of hook that libraries have, and serves through theirs.
func TestHooks(t *testing.T) {
	l := listen(t, iwarp.ListenConfig{})
	var serve func(net.Listener) = echo // http.Server.Serve, grpc.Server.Serve, fasthttp, thrift
	go serve(l)

	d := &iwarp.Dialer{Offload: iwarp.OffloadRequire, Timeout: patience}
	addr := l.Addr().String()
	ctx := t.Context()
	for _, tt := range []struct {
		shape string // and who has it
		dial  func() (net.Conn, error)
	}{
		{"func(ctx, network, addr): http.Transport, pgx, go-redis, mysql, kafka-go, franz-go, gorilla, gomemcache", func() (net.Conn, error) {
			var hook func(context.Context, string, string) (net.Conn, error) = d.DialContext
			return hook(ctx, "tcp", addr)
		}},
		{"DialContext(ctx, network, addr): mongo, gocql, lib/pq", func() (net.Conn, error) {
			var hook interface {
				DialContext(context.Context, string, string) (net.Conn, error)
			} = d
			return hook.DialContext(ctx, "tcp", addr)
		}},
		{"func(ctx, addr): grpc, mysql, clickhouse-go", func() (net.Conn, error) {
			t.Setenv("IWARP_OFFLOAD", "require")
			var hook func(context.Context, string) (net.Conn, error) = iwarp.ContextDialer
			return hook(ctx, addr)
		}},
		{"func(ctx, addr) with options: the same", func() (net.Conn, error) {
			hook := func(ctx context.Context, addr string) (net.Conn, error) { return d.DialContext(ctx, "tcp", addr) }
			return hook(ctx, addr)
		}},
		{"Dial(network, addr): nats, sarama, amqp091", func() (net.Conn, error) {
			var hook interface {
				Dial(string, string) (net.Conn, error)
			} = d
			return hook.Dial("tcp", addr)
		}},
		{"func(network, addr): the same", func() (net.Conn, error) {
			t.Setenv("IWARP_OFFLOAD", "require")
			var hook func(string, string) (net.Conn, error) = iwarp.Dial
			return hook("tcp", addr)
		}},
		{"func(addr): fasthttp", func() (net.Conn, error) {
			hook := func(addr string) (net.Conn, error) { return d.Dial("tcp", addr) }
			return hook(addr)
		}},
	} {
		c, err := tt.dial()
		require.NoError(t, err, tt.shape)
		require.Equal(t, "soft", describe(t, c).Transport, tt.shape)
		exchangeWithEcho(t, c, "hello")
		require.NoError(t, c.Close())
	}
}
