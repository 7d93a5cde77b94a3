package iwarp_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
)

// httpServer serves on a Listener of ours, and echoes the body.
func httpServer(t testing.TB, secure bool) *httptest.Server {
	t.Helper()
	l, err := iwarp.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Length", fmt.Sprint(r.ContentLength))
		_, _ = io.Copy(w, r.Body)
	}))
	_ = s.Listener.Close()
	s.Listener = l
	if secure {
		s.EnableHTTP2 = true
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s
}

func TestHTTP(t *testing.T) {
	body := make([]byte, 1<<20)
	_, _ = rand.Read(body)
	for _, secure := range []bool{false, true} {
		s := httpServer(t, secure)
		for _, policy := range policies {
			t.Run(fmt.Sprintf("tls=%v/%v", secure, policy), func(t *testing.T) {
				d := iwarp.Dialer{Offload: policy}
				tr := s.Client().Transport.(*http.Transport).Clone()
				tr.DialContext = d.DialContext
				defer tr.CloseIdleConnections()
				client := &http.Client{Transport: tr, Timeout: patience}
				var wg sync.WaitGroup
				for range 4 {
					wg.Go(func() {
						for range 3 {
							r, err := client.Post(s.URL, "application/octet-stream", bytes.NewReader(body))
							if !noError(t, err) {
								return
							}
							got, err := io.ReadAll(r.Body)
							_ = r.Body.Close()
							if noError(t, err) && !bytes.Equal(body, got) {
								t.Error("the body differs")
							}
							if secure && r.ProtoMajor != 2 {
								t.Errorf("%s in place of HTTP/2", r.Proto)
							}
						}
					})
				}
				wg.Wait()
			})
		}
	}
}

// TestHTTPShutdown ends a server in order, with idle connections of both kinds.
func TestHTTPShutdown(t *testing.T) {
	l, err := iwarp.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	srv := &http.Server{Handler: http.NotFoundHandler()}
	served := make(chan error)
	go func() { served <- srv.Serve(l) }()
	for _, policy := range []iwarp.Offload{iwarp.OffloadRequire, iwarp.OffloadNever} {
		d := iwarp.Dialer{Offload: policy}
		tr := &http.Transport{DialContext: d.DialContext}
		defer tr.CloseIdleConnections()
		r, err := (&http.Client{Transport: tr}).Get("http://" + l.Addr().String())
		require.NoError(t, err)
		_, _ = io.Copy(io.Discard, r.Body)
		require.NoError(t, r.Body.Close())
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, srv.Shutdown(ctx))
	require.ErrorIs(t, <-served, http.ErrServerClosed)
}

// TestTLS shakes hands over every kind of connection, both ways to begin.
func TestTLS(t *testing.T) {
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	config := s.TLS.Clone()
	roots := s.Client().Transport.(*http.Transport).TLSClientConfig
	for _, policy := range policies {
		t.Run(policy.String(), func(t *testing.T) {
			l := listen(t, iwarp.ListenConfig{FirstByteTimeout: patience})
			var c net.Conn
			var wg sync.WaitGroup
			text := strings.Repeat("secret ", 100_000)
			wg.Go(func() {
				c = tls.Client(dial(t, l, policy), &tls.Config{RootCAs: roots.RootCAs, ServerName: "example.com"})
				_, err := io.WriteString(c, text)
				noError(t, err)
				noError(t, c.(*tls.Conn).CloseWrite())
			})
			server := tls.Server(accept(t, l), config)
			got, err := io.ReadAll(server)
			require.NoError(t, err)
			require.Equal(t, text, string(got))
			wg.Wait()

			// A read that times out does not spoil the connection.
			require.NoError(t, c.SetReadDeadline(time.Now().Add(10*time.Millisecond)))
			_, err = c.Read(make([]byte, 1))
			require.True(t, err.(net.Error).Timeout(), "%v", err)
			require.NoError(t, server.Close())
		})
	}
}
