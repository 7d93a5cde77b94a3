// Package debug has a page that shows what package iwarp has in the process: connections with their
// path and the reason where it is plain TCP, listeners, reserved ports, and counts. It is for
// people who develop or operate the program, and says who its peers are, so it belongs where only
// they reach it:
//
//	http.Handle("/debug/iwarp", debug.Handler())
//
// Importing the package does nothing by itself. The page needs neither scripts nor anything from
// elsewhere, and shows what there is at the time of the request.
//
// # Frames
//
// Each connection has a page of its own, which also shows its frames (FPDUs) for a while when asked
// to: at most 10,000 for ten minutes, of at most eight connections. What is not asked for
// costs nothing. There are frames where this module makes them, in software; a device and shared
// memory show none, and plain TCP has none. The headers hold the STags, and words of one stream to
// the other; payload, which is what the application sends, is only there with HandlerWithPayload.
// Without a browser:
//
//	page='http://HOST/debug/iwarp?local=192.0.2.1:5201&remote=192.0.2.7:41000'
//	curl -d frames=1000 -d seconds=60 "$page"
//	curl -o trace.pcapng "$page&pcapng"
//
// The file for Wireshark needs a library, so a program that wants it imports the module
// github.com/rdmanet/iwarp/debug/pcapng.
package debug

import (
	"cmp"
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/internal/frames"
)

//go:embed page.html conn.html style.html
var files embed.FS

var pages = template.Must(template.New("").Funcs(template.FuncMap{"size": size, "span": span, "why": why, "link": link, "sum": sum}).ParseFS(files, "*.html"))

// mostRows bounds the page where there are very many connections.
const mostRows = 1000

// A view is what the page shows.
type view struct {
	iwarp.ProcessStats
	Now     time.Time
	Paths   []number
	Reasons []number
	More    int // connections that are not shown
	Traces  []*frames.Trace

	// What is asked for, and how many there are.
	Fallback        bool
	Path            string
	Known, Unwanted int
}

// All reports whether all connections are asked for.
func (v *view) All() bool {
	return !v.Fallback && v.Path == ""
}

type number struct {
	Name string
	N    int
}

// Handler returns what serves the page. With the query "fallback" it lists only plain TCP that has
// a reason, with "path=soft" or the like one path. It may be used by several goroutines at once.
func Handler() http.Handler { return handler{} }

// HandlerWithPayload is Handler for traces that may have the payload of frames: what the
// application sends and receives, with its secrets.
func HandlerWithPayload() http.Handler { return handler{payload: true} }

type handler struct{ payload bool }

func (h handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	conn := q.Has("local")
	switch {
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
	case r.Method == http.MethodPost && conn:
		h.order(w, r)
		return
	case conn:
		refuseMethod(w, "GET, HEAD, POST")
		return
	default:
		refuseMethod(w, "GET, HEAD")
		return
	}
	switch {
	case conn && q.Has("pcapng"):
		h.export(w, r)
	case conn:
		h.serveConn(w, r)
	default:
		show(w, r, "page.html", func() any { return look(q.Has("fallback"), q.Get("path")) })
	}
}

func refuseMethod(w http.ResponseWriter, allowed string) {
	w.Header().Set("Allow", allowed)
	http.Error(w, "use "+allowed, http.StatusMethodNotAllowed)
}

// show writes a page of what view returns.
func show(w http.ResponseWriter, r *http.Request, page string, view func() any) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
	guard(h)
	if r.Method != http.MethodHead {
		_ = pages.ExecuteTemplate(w, page, view()) // or the client has gone
	}
}

func guard(h http.Header) {
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin") // or the page's own forms would have "Origin: null"
}

func look(fallback bool, path string) *view {
	v := &view{ProcessStats: iwarp.Snapshot(), Now: time.Now(), Traces: frames.All(), Fallback: fallback, Path: path}
	paths, reasons := make(map[string]int), make(map[string]int)
	for i := range v.Conns {
		c := &v.Conns[i]
		paths[c.Transport]++
		if c.Reason != iwarp.ReasonNone {
			reasons[c.Reason.String()]++
			v.Unwanted++
		}
	}
	v.Known = len(v.Conns)
	v.Paths, v.Reasons = sorted(paths), sorted(reasons)
	v.Conns = slices.DeleteFunc(v.Conns, func(c iwarp.ConnStats) bool {
		return fallback && c.Reason == iwarp.ReasonNone || path != "" && c.Transport != path
	})
	slices.SortFunc(v.Conns, func(a, b iwarp.ConnStats) int {
		return cmp.Or(a.Local.Compare(b.Local), a.Remote.Compare(b.Remote))
	})
	if n := len(v.Conns); n > mostRows {
		v.Conns, v.More = v.Conns[:mostRows], n-mostRows
	}
	return v
}

func sorted(m map[string]int) (list []number) {
	for name, n := range m {
		list = append(list, number{name, n})
	}
	slices.SortFunc(list, func(a, b number) int { return cmp.Or(b.N-a.N, strings.Compare(a.Name, b.Name)) })
	return list
}

// why is what somebody should know of a connection.
func why(c iwarp.ConnStats, now time.Time) string {
	switch {
	case c.Failure != nil:
		return c.Failure.Error()
	case !c.BlockedSince.IsZero():
		return "blocked for " + span(now.Sub(c.BlockedSince)) + ": the peer does not read"
	case c.Reason != iwarp.ReasonNone:
		text := c.Reason.String()
		if c.Err != nil && !strings.Contains(c.Err.Error(), text) {
			text += ": " + c.Err.Error()
		}
		return text
	}
	return ""
}

func sum(a, b uint64) uint64 { return a + b }

func size(n uint64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprint(n)
	}
	v, i := float64(n)/1024, 0
	for ; v >= 1024 && i < len(units)-1; i++ {
		v /= 1024
	}
	return fmt.Sprintf("%.1f%c", v, units[i])
}

func span(d time.Duration) string {
	if d < time.Second {
		return d.Round(time.Microsecond).String()
	}
	return d.Round(time.Second).String()
}
