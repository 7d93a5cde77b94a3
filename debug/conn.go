package debug

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/internal/frames"
)

// What a trace has where it is not said.
const (
	usualFrames = 1000
	usualTime   = time.Minute
)

// pageFrames is how many frames there are on a page.
const pageFrames = 500

// A connView is what the page of a connection shows.
type connView struct {
	Local, Remote netip.AddrPort
	Conn          *iwarp.ConnStats // nil if there is none any more
	Now           time.Time
	Payload       bool // may be asked for

	Trace      *frames.Trace // nil if there is none
	Total      int           // frames in it
	Ended      string
	Frames     []shownFrame
	From, Next int // of the frames that are shown; Next is 0 if there are no more
	CanExport  bool
	None       string // why there can be no trace
}

// A shownFrame is a frame in words.
type shownFrame struct {
	N     int
	After string // seconds since the first one
	Out   bool
	Size  int
	frames.Text
}

// link is the query of a connection's page.
func link(local, remote netip.AddrPort) string {
	return "?" + url.Values{"local": {local.String()}, "remote": {remote.String()}}.Encode()
}

// addressed returns the connection that a request is about.
func addressed(r *http.Request) (local, remote netip.AddrPort, err error) {
	q := r.URL.Query()
	local, err = netip.ParseAddrPort(q.Get("local"))
	if err == nil {
		remote, err = netip.ParseAddrPort(q.Get("remote"))
	}
	if err != nil {
		err = errors.New("local and remote must be addresses with ports, such as 192.0.2.1:5201")
	}
	return local, remote, err
}

func (h handler) serveConn(w http.ResponseWriter, r *http.Request) {
	local, remote, err := addressed(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	from, _ := strconv.Atoi(r.URL.Query().Get("from")) // or from the first on
	show(w, r, "conn.html", func() any { return h.look(local, remote, max(from, 0)) })
}

func (h handler) look(local, remote netip.AddrPort, from int) *connView {
	v := &connView{Local: local, Remote: remote, Now: time.Now(), Payload: h.payload, CanExport: frames.Export != nil, From: from}
	for _, c := range iwarp.Snapshot().Conns {
		if c.Local == local && c.Remote == remote {
			v.Conn = &c
			break
		}
	}
	if _, err := frames.Find(local, remote); err != nil {
		v.None = err.Error()
	}
	v.Trace = frames.Of(local, remote)
	if v.Trace == nil {
		return v
	}
	list, ended := v.Trace.Frames()
	v.Total, v.Ended = len(list), ended
	v.From = min(from, len(list))
	to := min(v.From+pageFrames, len(list))
	for i := v.From; i < to; i++ {
		f := &list[i]
		v.Frames = append(v.Frames, shownFrame{
			N: i + 1, After: fmt.Sprintf("%.6f", f.At.Sub(v.Trace.Began).Seconds()), Out: f.Out, Size: f.Size, Text: v.Trace.Read(f),
		})
	}
	if to < len(list) {
		v.Next = to
	}
	return v
}

// order starts or stops a trace.
func (h handler) order(w http.ResponseWriter, r *http.Request) {
	guard(w.Header())
	if err := new(http.CrossOriginProtection).Check(r); err != nil {
		http.Error(w, err.Error(), http.StatusForbidden)
		return
	}
	local, remote, err := addressed(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	const mostForm = 4 << 10
	r.Body = http.MaxBytesReader(w, r.Body, mostForm)
	if err := r.ParseForm(); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if code, err := h.obey(local, remote, r.PostForm); err != nil {
		http.Error(w, err.Error(), code)
		return
	}
	w.Header().Set("Location", link(local, remote))
	w.WriteHeader(http.StatusSeeOther)
}

// obey does what the form says, or returns why not and with which status.
func (h handler) obey(local, remote netip.AddrPort, form url.Values) (code int, err error) {
	if form.Has("stop") {
		if t := frames.Of(local, remote); t != nil {
			t.Stop()
		}
		return 0, nil
	}
	l := frames.Limits{Frames: usualFrames, Time: usualTime, Payload: form.Get("payload") != ""}
	for name, set := range map[string]func(n int){
		"frames":  func(n int) { l.Frames = n },
		"seconds": func(n int) { l.Time = time.Duration(n) * time.Second },
	} {
		text := form.Get(name)
		if text == "" {
			continue
		}
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil || n == 0 {
			return http.StatusBadRequest, fmt.Errorf("%s must be a number from 1 to 65535", name)
		}
		set(int(n))
	}
	if l.Payload && !h.payload {
		return http.StatusForbidden, errors.New("this page does not show payload; see HandlerWithPayload of package debug")
	}
	switch _, err := frames.Start(local, remote, l); {
	case errors.Is(err, frames.ErrNotFound):
		return http.StatusNotFound, err
	case err != nil:
		return http.StatusConflict, err
	}
	return 0, nil
}

// export serves a trace as a file.
func (h handler) export(w http.ResponseWriter, r *http.Request) {
	local, remote, err := addressed(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	t := frames.Of(local, remote)
	switch {
	case t != nil && t.Payload && !h.payload: // it was asked for on another page
		http.Error(w, "the trace has payload; see HandlerWithPayload of package debug", http.StatusForbidden)
		return
	case frames.Export == nil:
		http.Error(w, "the program must import github.com/rdmanet/iwarp/debug/pcapng for that", http.StatusNotImplemented)
		return
	case t == nil:
		http.Error(w, "the connection has no trace; start one by POST", http.StatusNotFound)
		return
	}
	head := w.Header()
	guard(head)
	head.Set("Content-Type", "application/x-pcapng")
	head.Set("Content-Disposition", `attachment; filename="`+fileName(local, remote)+`"`)
	if r.Method != http.MethodHead {
		_ = frames.Export(w, t) // or the client has gone
	}
}

// fileName has nothing in it that a system would mind.
func fileName(local, remote netip.AddrPort) string {
	plain := func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r == '.' || r == '-' {
			return r
		}
		return '_'
	}
	return strings.Map(plain, "iwarp-"+local.String()+"-"+remote.String()+".pcapng")
}
