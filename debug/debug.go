// Package debug has a page that shows what package iwarp has in the process: connections with their
// path and the reason where it is plain TCP, listeners, reserved ports, and counts. It is for
// people who develop or operate the program, and says who its peers are, so it belongs where only
// they reach it:
//
//	http.Handle("/debug/iwarp", debug.Handler())
//
// Importing the package does nothing by itself. The page needs neither scripts nor anything from
// elsewhere, and shows what there is at the time of the request.
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
)

//go:embed page.html
var files embed.FS

var page = template.Must(template.New("page.html").Funcs(template.FuncMap{"size": size, "span": span, "why": why}).ParseFS(files, "page.html"))

// mostRows bounds the page where there are very many connections.
const mostRows = 1000

// A view is what the page shows.
type view struct {
	iwarp.ProcessStats
	Now     time.Time
	Paths   []number
	Reasons []number
	More    int // connections that are not shown
}

type number struct {
	Name string
	N    int
}

// Handler returns what serves the page, for GET and HEAD. With the query "fallback" it lists only
// plain TCP that has a reason, with "path=soft" or the like one path. It may be used by several
// goroutines at once.
func Handler() http.Handler { return http.HandlerFunc(serve) }

func serve(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "use GET", http.StatusMethodNotAllowed)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
	if r.Method == http.MethodHead {
		return
	}
	q := r.URL.Query()
	_ = page.Execute(w, look(q.Has("fallback"), q.Get("path"))) // the client has gone
}

func look(fallback bool, path string) *view {
	v := &view{ProcessStats: iwarp.Snapshot(), Now: time.Now()}
	paths, reasons := make(map[string]int), make(map[string]int)
	for i := range v.Conns {
		c := &v.Conns[i]
		paths[c.Transport]++
		if c.Reason != iwarp.ReasonNone {
			reasons[c.Reason.String()]++
		}
	}
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
