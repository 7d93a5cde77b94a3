package debug_test

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/debug"
)

func get(t *testing.T, target string) string {
	w := httptest.NewRecorder()
	debug.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, target, nil))
	require.Equal(t, http.StatusOK, w.Code)
	require.Contains(t, w.Header().Get("Content-Security-Policy"), "default-src 'none'")
	return w.Body.String()
}

// connected returns both ends of a connection of software iWARP, and its listener.
func connected(t *testing.T) (l net.Listener, c, s net.Conn) {
	l, err := (&iwarp.ListenConfig{Offload: iwarp.OffloadRequire}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	accepted := make(chan net.Conn, 1)
	go func() {
		c, _ := l.Accept()
		accepted <- c
	}()
	d := iwarp.Dialer{Offload: iwarp.OffloadRequire}
	c, err = d.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	s = <-accepted
	require.NotNil(t, s)
	t.Cleanup(func() { s.Close() })
	return l, c, s
}

func TestPage(t *testing.T) {
	require.Contains(t, get(t, "/"), "Connections: 0")
	l, c, s := connected(t)
	_, err := c.Write(make([]byte, 3000))
	require.NoError(t, err)
	_, err = io.ReadFull(s, make([]byte, 3000))
	require.NoError(t, err)
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer plain.Close()
	p, err := iwarp.Dial("tcp", plain.Addr().String())
	require.NoError(t, err)
	defer p.Close()

	all := get(t, "/debug/iwarp")
	for _, text := range []string{"Connections: 3", c.LocalAddr().String(), p.LocalAddr().String(), l.Addr().String(), "2.9K", "no rdma device", "require", "established"} {
		require.Contains(t, all, text)
	}
	require.NotContains(t, all, "<script")
	require.NotContains(t, all, "://")
	fallback := get(t, "/debug/iwarp?fallback")
	require.Contains(t, fallback, "Connections: 1")
	require.NotContains(t, fallback, c.LocalAddr().String())
	require.NotContains(t, get(t, "/debug/iwarp?path=soft"), p.LocalAddr().String())
	require.NotContains(t, get(t, "/debug/iwarp?path=<b>"), "<b>")
}

func TestMethods(t *testing.T) {
	w := httptest.NewRecorder()
	debug.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", nil))
	require.Equal(t, http.StatusMethodNotAllowed, w.Code)
	w = httptest.NewRecorder()
	debug.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodHead, "/", nil))
	require.Equal(t, http.StatusOK, w.Code)
	require.Zero(t, w.Body.Len())
}
