package iwarpgrpc_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/rdmanet/iwarp"
	iwarpgrpc "github.com/rdmanet/iwarp/grpc"
	"github.com/rdmanet/iwarp/internal/testkit/leak"
	"github.com/rdmanet/iwarp/iwarphttp"
	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/shm"
	"github.com/rdmanet/iwarp/transport/soft"
)

func TestMain(m *testing.M) {
	os.Unsetenv("IWARP_OFFLOAD") // which would change the policies
	os.Unsetenv("IWARP_LISTEN_OFFLOAD")
	leak.Main(m)
}

// told answers health checks, and keeps what it has found in the context.
type told struct {
	grpc_health_v1.UnimplementedHealthServer
	seen chan seen
}

type seen struct {
	info iwarp.Info
	ok   bool
	auth credentials.AuthInfo
}

func (h *told) Check(ctx context.Context, r *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	info, ok := iwarpgrpc.FromContext(ctx)
	s := seen{info: info, ok: ok}
	if p, ok := peer.FromContext(ctx); ok {
		s.auth = p.AuthInfo
	}
	h.seen <- s
	if r.GetService() != "" {
		return nil, status.Error(codes.NotFound, "no such service")
	}
	return &grpc_health_v1.HealthCheckResponse{Status: grpc_health_v1.HealthCheckResponse_SERVING}, nil
}

// serve serves on l until the end of the test.
func serve(t *testing.T, l net.Listener, options ...grpc.ServerOption) <-chan seen {
	h := &told{seen: make(chan seen, 16)}
	s := grpc.NewServer(options...)
	grpc_health_v1.RegisterHealthServer(s, h)
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		require.NoError(t, <-served)
	})
	return h.seen
}

func newClient(t *testing.T, target string, options ...grpc.DialOption) grpc_health_v1.HealthClient {
	conn, err := grpc.NewClient(target, options...)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return grpc_health_v1.NewHealthClient(conn)
}

func check(t *testing.T, c grpc_health_v1.HealthClient, options ...grpc.CallOption) error {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err := c.Check(ctx, &grpc_health_v1.HealthCheckRequest{}, options...)
	return err
}

func listen(t *testing.T, policy iwarp.Offload, by ...transport.Transport) net.Listener {
	l, err := (&iwarp.ListenConfig{Offload: policy, Transports: by}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	return l
}

// secure returns credentials of both ends, where the server is called example.com.
func secure(t *testing.T) (client, server credentials.TransportCredentials) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"example.com"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	pair := tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	return credentials.NewTLS(&tls.Config{RootCAs: roots, ServerName: "example.com"}),
		credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{pair}})
}

func TestPaths(t *testing.T) {
	for _, path := range []struct {
		name   string
		policy iwarp.Offload
		by     []transport.Transport
	}{
		{"tcp", iwarp.OffloadNever, nil},
		{"soft", iwarp.OffloadRequire, []transport.Transport{soft.New(nil)}},
		{"shm", iwarp.OffloadRequire, []transport.Transport{shm.New(nil)}},
	} {
		for _, encrypted := range []bool{false, true} {
			name := path.name
			if encrypted {
				name += " tls"
			}
			t.Run(name, func(t *testing.T) {
				if path.name == "shm" && runtime.GOOS != "linux" {
					t.Skip("shared memory needs Linux")
				}
				mine, theirs, level := insecure.NewCredentials(), insecure.NewCredentials(), credentials.NoSecurity
				if encrypted {
					mine, theirs = secure(t)
					level = credentials.PrivacyAndIntegrity
				}
				var served, made iwarpgrpc.Counter
				l := listen(t, path.policy, path.by...)
				at := serve(t, l, iwarpgrpc.ServerOption(theirs), grpc.StatsHandler(&served))
				options := iwarpgrpc.DialOptions(&iwarp.Dialer{Offload: path.policy, Transports: path.by}, mine)
				client := newClient(t, "dns:///"+l.Addr().String(), append(options, grpc.WithStatsHandler(&made))...)
				var p peer.Peer
				require.NoError(t, check(t, client, grpc.Peer(&p)))

				s := <-at
				require.True(t, s.ok)
				require.Equal(t, path.name, s.info.Transport)
				a, ok := iwarpgrpc.FromPeer(&p)
				require.True(t, ok)
				require.True(t, a.Known)
				require.Equal(t, path.name, a.Info.Transport)
				for _, auth := range []credentials.AuthInfo{a, s.auth} {
					require.NoError(t, credentials.CheckSecurityLevel(auth, level))
					if encrypted {
						require.Equal(t, "tls", auth.AuthType())
						require.IsType(t, credentials.TLSInfo{}, auth.(iwarpgrpc.AuthInfo).AuthInfo)
						require.NotNil(t, auth.(iwarpgrpc.AuthInfo).GetSecurityValue())
						continue
					}
					require.Equal(t, "insecure", auth.AuthType())
					require.Error(t, credentials.CheckSecurityLevel(auth, credentials.PrivacyAndIntegrity))
				}
				_, err := client.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: "none"})
				require.Equal(t, codes.NotFound, status.Code(err))
				require.Equal(t, []iwarpgrpc.Count{{Client: true, Path: path.name, Begun: 2, Ended: 2, Failed: 1}}, made.Counts())
				want := []iwarpgrpc.Count{{Path: path.name, Begun: 2, Ended: 2, Failed: 1}}
				require.Eventually(t, func() bool { // the server ends an RPC after its answer
					return slices.Equal(want, served.Counts())
				}, time.Minute, time.Millisecond, "%+v", served.Counts())
			})
		}
	}
}

// TestAuthority lets a call override the authority as the credentials inside do.
func TestAuthority(t *testing.T) {
	mine, theirs := secure(t)
	l := listen(t, iwarp.OffloadAuto)
	serve(t, l, iwarpgrpc.ServerOption(theirs))
	client := newClient(t, "passthrough:///"+l.Addr().String(), iwarpgrpc.DialOptions(nil, mine)...)
	require.NoError(t, check(t, client, grpc.CallAuthority("example.com")))
	require.Equal(t, codes.Unavailable, status.Code(check(t, client, grpc.CallAuthority("example.net"))))
}

type token struct{}

func (token) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "secret"}, nil
}
func (token) RequireTransportSecurity() bool { return true }

// TestSecrets keeps tokens off connections that are not encrypted.
func TestSecrets(t *testing.T) {
	mine, theirs := secure(t)
	for _, c := range []struct {
		client, server credentials.TransportCredentials
		want           codes.Code
	}{{mine, theirs, codes.OK}, {insecure.NewCredentials(), insecure.NewCredentials(), codes.Unauthenticated}} {
		l := listen(t, iwarp.OffloadRequire)
		serve(t, l, iwarpgrpc.ServerOption(c.server))
		client := newClient(t, "passthrough:///"+l.Addr().String(), iwarpgrpc.DialOptions(&iwarp.Dialer{Offload: iwarp.OffloadRequire}, c.client)...)
		require.Equal(t, c.want, status.Code(check(t, client, grpc.PerRPCCredentials(token{}))))
	}
}

// TestOthers has connections that are not of package iwarp at one end or both.
func TestOthers(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var served, made iwarpgrpc.Counter
	at := serve(t, l, iwarpgrpc.ServerOption(nil), grpc.StatsHandler(&served))
	client := newClient(t, "passthrough:///"+l.Addr().String(), append(iwarpgrpc.DialOptions(nil, insecure.NewCredentials()), grpc.WithStatsHandler(&made))...)
	require.NoError(t, check(t, client))
	require.False(t, (<-at).ok)
	require.Equal(t, "unknown", served.Counts()[0].Path)
	require.Equal(t, "tcp", made.Counts()[0].Path)

	plain := newClient(t, "passthrough:///"+l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	var p peer.Peer
	require.NoError(t, check(t, plain, grpc.Peer(&p)))
	_, ok := iwarpgrpc.FromPeer(&p)
	require.False(t, ok)
	_, ok = iwarpgrpc.FromPeer(nil)
	require.False(t, ok)
	_, ok = iwarpgrpc.FromContext(t.Context())
	require.False(t, ok)
}

func TestUnixSockets(t *testing.T) {
	dir, err := os.MkdirTemp("", "grpc") // as t.TempDir may be too long for a socket
	require.NoError(t, err)
	defer os.RemoveAll(dir)
	targets := map[string]string{filepath.Join(dir, "s"): "unix://" + filepath.Join(dir, "s")}
	if runtime.GOOS == "linux" {
		targets["@"+dir] = "unix-abstract:" + dir
	}
	for address, target := range targets {
		l, err := net.Listen("unix", address)
		require.NoError(t, err)
		serve(t, l, iwarpgrpc.ServerOption(nil))
		client := newClient(t, target, iwarpgrpc.DialOptions(nil, insecure.NewCredentials())...)
		require.NoError(t, check(t, client))
	}
}

func TestNoConnection(t *testing.T) {
	_, err := grpc.NewClient("passthrough:///x", iwarpgrpc.DialOptions(nil, nil)...)
	require.ErrorContains(t, err, "no transport security set")

	l := listen(t, iwarp.OffloadAuto)
	require.NoError(t, l.Close())
	var made iwarpgrpc.Counter
	client := newClient(t, "passthrough:///"+l.Addr().String(), append(iwarpgrpc.DialOptions(nil, insecure.NewCredentials()), grpc.WithStatsHandler(&made))...)
	require.Equal(t, codes.Unavailable, status.Code(check(t, client)))
	require.Empty(t, made.Counts(), "it had no connection")
}

// TestHandler has gRPC's server as a handler of net/http.
func TestHandler(t *testing.T) {
	h := &told{seen: make(chan seen, 1)}
	s := grpc.NewServer()
	defer s.Stop()
	grpc_health_v1.RegisterHealthServer(s, h)
	server := httptest.NewUnstartedServer(s)
	require.NoError(t, server.Listener.Close())
	server.Listener = listen(t, iwarp.OffloadRequire, soft.New(nil))
	server.Config.ConnContext = iwarphttp.ConnContext
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	creds := credentials.NewTLS(&tls.Config{RootCAs: roots, ServerName: "example.com"})
	client := newClient(t, "passthrough:///"+server.Listener.Addr().String(), iwarpgrpc.DialOptions(&iwarp.Dialer{Offload: iwarp.OffloadRequire}, creds)...)
	require.NoError(t, check(t, client))
	seen := <-h.seen
	require.True(t, seen.ok)
	require.Equal(t, "soft", seen.info.Transport)
}

var _ http.Handler = (*grpc.Server)(nil)

// bare are credentials without anything that is optional.
type bare struct {
	credentials.TransportCredentials
	err error
}

func (b bare) ClientHandshake(_ context.Context, _ string, c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return c, nil, b.err
}
func (b bare) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return c, nil, b.err
}
func (b bare) Clone() credentials.TransportCredentials { return b }

// TestBare wraps credentials that have no AuthInfo, or fail.
func TestBare(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	creds := iwarpgrpc.NewCredentials(bare{insecure.NewCredentials(), nil}).Clone()
	require.Equal(t, insecure.NewCredentials().Info(), creds.Info())
	_, auth, err := creds.ServerHandshake(a)
	require.NoError(t, err)
	require.Empty(t, auth.AuthType())
	require.Error(t, auth.(iwarpgrpc.AuthInfo).ValidateAuthority("x"))
	require.Nil(t, auth.(iwarpgrpc.AuthInfo).GetSecurityValue())
	require.NoError(t, credentials.CheckSecurityLevel(auth, credentials.PrivacyAndIntegrity), "as without one that gRPC knows")
	require.False(t, auth.(iwarpgrpc.AuthInfo).Known)

	for _, want := range []error{credentials.ErrConnDispatched, errors.New("no")} {
		creds = iwarpgrpc.NewCredentials(bare{insecure.NewCredentials(), want})
		_, auth, err = creds.ServerHandshake(a)
		require.True(t, err == want && auth == nil)
		_, auth, err = creds.ClientHandshake(t.Context(), "", a)
		require.True(t, err == want && auth == nil)
	}
}
