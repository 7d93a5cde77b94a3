package iwarphttp_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/iwarphttp"
	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/shm"
	"github.com/rdmanet/iwarp/transport/soft"
)

// wrapping has its connections in one of its own, as limits of rates or logs do.
type wrapping struct{ net.Listener }

func (l wrapping) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &wrapped{c}, nil
}

type wrapped struct{ net.Conn }

// say answers with the protocol and the path.
var say = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	info, ok := iwarphttp.FromRequest(r)
	again, _ := iwarphttp.FromContext(r.Context())
	if !ok || again.Transport != info.Transport || again.Reason != info.Reason {
		http.Error(w, "not known", http.StatusInternalServerError)
		return
	}
	_, _ = io.WriteString(w, r.Proto+" "+info.Transport)
})

func TestFromRequest(t *testing.T) {
	for _, path := range []struct {
		name   string
		policy iwarp.Offload
		by     []transport.Transport
	}{
		{"tcp", iwarp.OffloadNever, nil},
		{"soft", iwarp.OffloadRequire, []transport.Transport{soft.New(nil)}},
		{"shm", iwarp.OffloadRequire, []transport.Transport{shm.New(nil)}},
	} {
		for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0", "HTTP/1.1 wrapped", "HTTP/2.0 wrapped"} {
			t.Run(path.name+" "+protocol, func(t *testing.T) {
				if path.name == "shm" && runtime.GOOS != "linux" {
					t.Skip("shared memory needs Linux")
				}
				l, err := (&iwarp.ListenConfig{Offload: path.policy, Transports: path.by}).Listen(t.Context(), "tcp", "127.0.0.1:0")
				require.NoError(t, err)
				server := httptest.NewUnstartedServer(say)
				require.NoError(t, server.Listener.Close())
				server.Listener = l
				if len(protocol) > len("HTTP/1.1") {
					server.Listener = wrapping{l}
				}
				server.Config.ConnContext = iwarphttp.ConnContext
				tr := &http.Transport{DialContext: (&iwarp.Dialer{Offload: path.policy, Transports: path.by}).DialContext}
				if protocol[:len("HTTP/1.1")] == "HTTP/2.0" {
					server.EnableHTTP2 = true
					server.StartTLS()
					roots := x509.NewCertPool()
					roots.AddCert(server.Certificate())
					tr.TLSClientConfig, tr.ForceAttemptHTTP2 = &tls.Config{RootCAs: roots, ServerName: "example.com"}, true
				} else {
					server.Start()
				}
				defer server.Close()
				client := &http.Client{Transport: tr}
				defer client.CloseIdleConnections()
				for range 3 {
					r, err := client.Get(server.URL)
					require.NoError(t, err)
					b, err := io.ReadAll(r.Body)
					require.NoError(t, err)
					require.NoError(t, r.Body.Close())
					require.Equal(t, protocol[:len("HTTP/1.1")]+" "+path.name, string(b))
				}
			})
		}
	}
}

func TestUnknown(t *testing.T) {
	_, ok := iwarphttp.FromRequest(httptest.NewRequest(http.MethodGet, "/", nil))
	require.False(t, ok)
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	ctx := iwarphttp.ConnContext(t.Context(), a)
	_, ok = iwarphttp.FromContext(ctx)
	require.False(t, ok)
	type key struct{}
	_, ok = iwarphttp.FromContext(context.WithValue(ctx, key{}, 1))
	require.False(t, ok)
}
