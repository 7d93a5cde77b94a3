package debug_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/debug"
)

// FuzzPage asks the page for anything. What a query says does not get into the page unescaped.
func FuzzPage(f *testing.F) {
	for _, seed := range [][2]string{
		{"", ""}, {"fallback", ""}, {"path=soft", ""}, {"path=<script>alert(1)</script>", ""}, {"local=127.0.0.1:1&remote=[::1]:2", "stop=1"}, {"local=127.0.0.1:1&remote=127.0.0.1:2&from=-5", "frames=10&seconds=5"},
		{"local=127.0.0.1:1&remote=127.0.0.1:2&pcapng", "frames=999999999999999999999&payload=1"}, {"local=x&remote=y", "frames=-1"}, {"local=[fe80::1%25<b>]:1&remote=[::1]:2", "seconds=x"}, {"%zz", "%zz"},
		{"local=127.0.0.1:1&remote=127.0.0.1:2&from=99999999999999999999", strings.Repeat("a=b&", 2000)},
	} {
		f.Add(seed[0], seed[1], false)
		f.Add(seed[0], seed[1], true)
	}
	f.Fuzz(func(t *testing.T, query, form string, post bool) {
		r := &http.Request{Method: http.MethodGet, URL: &url.URL{Path: "/debug/iwarp", RawQuery: query}, Header: http.Header{}, Host: "example.com"}
		if post {
			r = httptest.NewRequest(http.MethodPost, "/debug/iwarp", strings.NewReader(form))
			r.URL.RawQuery = query
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		for _, h := range []http.Handler{debug.Handler(), debug.HandlerWithPayload()} {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			require.Less(t, w.Code, 600)
			require.NotEqual(t, http.StatusInternalServerError, w.Code, w.Body)
			if strings.HasPrefix(w.Header().Get("Content-Type"), "text/html") {
				require.NotContains(t, w.Body.String(), "<script")
				require.Contains(t, w.Header().Get("Content-Security-Policy"), "default-src 'none'")
			}
		}
	})
}
