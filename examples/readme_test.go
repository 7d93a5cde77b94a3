package examples

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/internal/testkit/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

// told is a dial function that passes on what Describe says of its connections.
func told(t *testing.T, dial func(ctx context.Context, network, address string) (net.Conn, error)) (func(context.Context, string, string) (net.Conn, error), <-chan iwarp.Info) {
	infos := make(chan iwarp.Info, 16)
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dial(ctx, network, address)
		if err == nil {
			info, ok := iwarp.Describe(c)
			if !ok {
				t.Error("a connection of ours has no description")
			}
			infos <- info
		}
		return c, err
	}, infos
}

// transport is as README makes one.
func transport(dial func(ctx context.Context, network, address string) (net.Conn, error)) *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DialContext = dial
	return t
}

func TestHTTP(t *testing.T) {
	for _, c := range []struct {
		policy    iwarp.Offload
		transport string
	}{{iwarp.OffloadPrefer, "soft"}, {iwarp.OffloadNever, "tcp"}} {
		t.Run(c.policy.String(), func(t *testing.T) {
			l, err := iwarp.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") })
			server := &http.Server{Handler: handler}
			served := make(chan error, 1)
			go func() { served <- server.Serve(l) }()
			defer func() {
				require.NoError(t, server.Shutdown(t.Context()))
				require.ErrorIs(t, <-served, http.ErrServerClosed)
			}()

			d := &iwarp.Dialer{HandshakeTimeout: 20 * time.Second, Offload: c.policy}
			dial, infos := told(t, d.DialContext)
			client := &http.Client{Transport: transport(dial)}
			defer client.CloseIdleConnections()
			require.Equal(t, "hello", get(t, client, "http://"+l.Addr().String()))
			require.Equal(t, c.transport, (<-infos).Transport)
		})
	}
}

// TestHTTP2OverTLS puts encryption, and with it HTTP/2, above iWARP.
func TestHTTP2OverTLS(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) }))
	require.NoError(t, server.Listener.Close())
	var err error
	server.Listener, err = iwarp.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()

	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	d := &iwarp.Dialer{Offload: iwarp.OffloadRequire}
	dial, infos := told(t, d.DialContext)
	tr := transport(dial)
	tr.TLSClientConfig = &tls.Config{RootCAs: roots, ServerName: "example.com"}
	client := &http.Client{Transport: tr}
	defer client.CloseIdleConnections()
	require.Equal(t, "HTTP/2.0", get(t, client, server.URL))
	require.Equal(t, "soft", (<-infos).Transport)
}

// TestHTTPProxy goes by a proxy that is dialed by iWARP.
func TestHTTPProxy(t *testing.T) {
	l, err := iwarp.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	proxy := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "by a proxy: "+r.URL.String())
	}))
	require.NoError(t, proxy.Listener.Close())
	proxy.Listener = l
	proxy.Start()
	defer proxy.Close()

	dial, infos := told(t, (&iwarp.Dialer{Offload: iwarp.OffloadRequire}).DialContext)
	tr := transport(dial)
	require.Equal(t, reflect.ValueOf(http.ProxyFromEnvironment).Pointer(), reflect.ValueOf(tr.Proxy).Pointer(), "that of the environment")
	tr.Proxy = func(*http.Request) (*url.URL, error) { return url.Parse(proxy.URL) }
	client := &http.Client{Transport: tr}
	defer client.CloseIdleConnections()
	require.Equal(t, "by a proxy: http://host.invalid/file", get(t, client, "http://host.invalid/file"))
	require.Equal(t, "soft", (<-infos).Transport)
}

// TestGRPCByEnvironment leaves the policy to the environment.
func TestGRPCByEnvironment(t *testing.T) {
	for policy, transport := range map[string]string{"prefer": "soft", "never": "tcp"} {
		t.Run(policy, func(t *testing.T) {
			l, err := (&iwarp.ListenConfig{Offload: iwarp.OffloadPrefer}).Listen(t.Context(), "tcp", "127.0.0.1:0")
			require.NoError(t, err)
			server := grpc.NewServer()
			grpc_health_v1.RegisterHealthServer(server, health.NewServer())
			served := make(chan error, 1)
			go func() { served <- server.Serve(l) }()
			defer func() {
				server.Stop()
				require.NoError(t, <-served)
			}()

			// A server that has spoken iWARP before has all the time there is to answer.
			known, err := (&iwarp.Dialer{Offload: iwarp.OffloadRequire}).Dial("tcp", l.Addr().String())
			require.NoError(t, err)
			require.NoError(t, known.Close())

			t.Setenv("IWARP_OFFLOAD", policy)
			dial, infos := told(t, func(ctx context.Context, _, address string) (net.Conn, error) {
				return iwarp.ContextDialer(ctx, address)
			})
			conn, err := grpc.NewClient("passthrough:///"+l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()),
				grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) { return dial(ctx, "tcp", address) }))
			require.NoError(t, err)
			defer conn.Close()
			answer, err := grpc_health_v1.NewHealthClient(conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
			require.NoError(t, err)
			require.Equal(t, grpc_health_v1.HealthCheckResponse_SERVING, answer.GetStatus())
			require.Equal(t, transport, (<-infos).Transport)
		})
	}
}

// TestFallbackTellsWhy dials a server that knows nothing of iWARP, and like many waits for more
// when it gets a request for it. It is no HTTP server, which answers a request that happens to have
// the end of a line in it.
func TestFallbackTellsWhy(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(io.Discard, c)
			}()
		}
	}()
	address := l.Addr().String()

	const patience = 100 * time.Millisecond
	c, err := (&iwarp.Dialer{Offload: iwarp.OffloadPrefer, HandshakeTimeout: patience}).Dial("tcp", address)
	require.NoError(t, err)
	defer c.Close()
	require.IsType(t, &net.TCPConn{}, c)
	info, ok := iwarp.Describe(c)
	require.True(t, ok)
	require.Equal(t, "tcp", info.Transport)
	require.Equal(t, iwarp.ReasonHandshakeTimeout, info.Reason)

	_, err = (&iwarp.Dialer{Offload: iwarp.OffloadRequire, HandshakeTimeout: patience}).Dial("tcp", address)
	var why *iwarp.OffloadError
	require.True(t, errors.As(err, &why), "%v", err)
	require.Equal(t, iwarp.ReasonHandshakeTimeout, why.Reason)
}

func get(t *testing.T, client *http.Client, url string) string {
	t.Helper()
	resp, err := client.Get(url)
	require.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return string(b)
}
