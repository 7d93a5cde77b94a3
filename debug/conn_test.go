package debug_test

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/debug"
	"github.com/rdmanet/iwarp/internal/frames"
)

func pageOf(c net.Conn) string {
	q := url.Values{"local": {c.LocalAddr().String()}, "remote": {c.RemoteAddr().String()}}
	return "/debug/iwarp?" + q.Encode()
}

// post sends a form, from the page itself or from elsewhere.
func post(h http.Handler, target string, form url.Values, site string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, target, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if site != "" {
		r.Header.Set("Sec-Fetch-Site", site)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// A browser that does not say from where a form is, as over plain HTTP, sends its Origin.
func TestFormsOverPlainHTTP(t *testing.T) {
	_, c, _ := connected(t)
	h, page := debug.Handler(), pageOf(c)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, page, nil))
	require.Equal(t, "same-origin", w.Header().Get("Referrer-Policy"), "no-referrer makes the Origin null")
	for origin, code := range map[string]int{"http://example.com": http.StatusSeeOther, "http://evil.test": http.StatusForbidden} {
		r := httptest.NewRequest(http.MethodPost, page, strings.NewReader("stop=1"))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", origin)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		require.Equal(t, code, w.Code, "%s: %s", origin, w.Body)
	}
}

func send(t *testing.T, c, s net.Conn, text string) {
	_, err := io.WriteString(c, text)
	require.NoError(t, err)
	_, err = io.ReadFull(s, make([]byte, len(text)))
	require.NoError(t, err)
}

// The page of a connection shows its frames once that is asked for.
func TestFrames(t *testing.T) {
	_, c, s := connected(t)
	h, page := debug.Handler(), pageOf(c)
	require.Contains(t, get(t, page), "Record frames")
	require.NotContains(t, get(t, page), "payload, which")
	w := post(h, page, url.Values{"frames": {"100"}, "seconds": {"60"}}, "same-origin")
	require.Equal(t, http.StatusSeeOther, w.Code, w.Body)
	require.Equal(t, page[strings.Index(page, "?"):], w.Header().Get("Location"))
	send(t, c, s, strings.Repeat("secret", 500))
	text := get(t, page)
	for _, part := range []string{"Recording since", "up to 100 frames", "RDMA Write", "3000", "sent", "STag 0x", "of this package", "Stop"} {
		require.Contains(t, text, part)
	}
	require.NotContains(t, text, "secret")
	require.NotContains(t, text, "<script")
	require.NotContains(t, text, "Record frames")
	require.Contains(t, get(t, "/debug/iwarp"), "Traces of frames: ")
	w = httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, page+"&pcapng", nil))
	require.Equal(t, http.StatusNotImplemented, w.Code) // nobody has imported what it takes

	require.Equal(t, http.StatusSeeOther, post(h, page, url.Values{"stop": {"1"}}, "").Code)
	text = get(t, page)
	require.Contains(t, text, "The trace has ended: it was stopped")
	require.Contains(t, text, "Record frames")
	send(t, c, s, "more")
	require.Contains(t, get(t, page+"&from=100000"), "Frames: ")

	// It is there after the connection.
	require.NoError(t, c.Close())
	text = get(t, page)
	require.Contains(t, text, "not any more")
	require.Contains(t, text, "RDMA Write")
	require.NotContains(t, text, "Record frames")
}

func TestPayloadIsForThoseWhoMaySee(t *testing.T) {
	_, c, s := connected(t)
	page, form := pageOf(c), url.Values{"payload": {"1"}}
	require.Equal(t, http.StatusForbidden, post(debug.Handler(), page, form, "").Code)
	w := httptest.NewRecorder()
	h := debug.HandlerWithPayload()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, page, nil))
	require.Contains(t, w.Body.String(), "with payload, which may be secret")
	require.Equal(t, http.StatusSeeOther, post(h, page, form, "").Code)
	send(t, c, s, "hello")
	list, _ := frames.Of(addr(t, c.LocalAddr()), addr(t, c.RemoteAddr())).Frames()
	var all []byte
	for _, f := range list {
		all = append(all, f.Data...)
	}
	require.Contains(t, string(all), "hello")
	w = httptest.NewRecorder()
	debug.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, page+"&pcapng", nil))
	require.Equal(t, http.StatusForbidden, w.Code, "by a page that shows none")
	require.Equal(t, http.StatusSeeOther, post(h, page, url.Values{"stop": {"1"}}, "").Code)
}

func TestNoTrace(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	plain, err := iwarp.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer plain.Close()
	_, c, _ := connected(t)
	h := debug.Handler()
	require.Contains(t, get(t, pageOf(plain)), "No trace: plain TCP has no frames")
	for _, c := range []struct {
		name, target string
		form         url.Values
		site         string
		code         int
	}{
		{"plain tcp", pageOf(plain), nil, "", http.StatusConflict},
		{"no such connection", "/?local=192.0.2.1:1&remote=192.0.2.2:2", nil, "", http.StatusNotFound},
		{"no addresses", "/?local=x&remote=y", nil, "", http.StatusBadRequest},
		{"no connection", "/", nil, "", http.StatusMethodNotAllowed},
		{"no number", pageOf(c), url.Values{"frames": {"many"}}, "", http.StatusBadRequest},
		{"no frames", pageOf(c), url.Values{"frames": {"0"}}, "", http.StatusBadRequest},
		{"too many seconds", pageOf(c), url.Values{"seconds": {"1000000"}}, "", http.StatusBadRequest},
		{"another site", pageOf(c), nil, "cross-site", http.StatusForbidden},
		{"a large form", pageOf(c), url.Values{"x": {strings.Repeat("x", 10_000)}}, "", http.StatusBadRequest},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := post(h, c.target, c.form, c.site)
			require.Equal(t, c.code, w.Code, w.Body)
		})
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodPut, pageOf(c), nil))
	require.Equal(t, http.StatusMethodNotAllowed, w.Code)
	require.Equal(t, "GET, HEAD, POST", w.Header().Get("Allow"))
	w = httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/?local=<b>&remote=1", nil))
	require.Equal(t, http.StatusBadRequest, w.Code)
	require.Nil(t, frames.Of(addr(t, c.LocalAddr()), addr(t, c.RemoteAddr())))
}

func addr(t *testing.T, a net.Addr) netip.AddrPort {
	p, err := netip.ParseAddrPort(a.String())
	require.NoError(t, err)
	return p
}
