package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"syscall"
	"time"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/internal/statpage"
)

// A reason is why a port is not held.
type reason string

const (
	conflict    reason = "conflict"    // another program has it
	unconfirmed reason = "unconfirmed" // a socket has it that may be its own program's
	own         reason = "own"         // a socket of its own program has it
	guarded     reason = "guarded"     // another portguard has it
	elsewhere   reason = "elsewhere"   // it is of another network namespace
	permission  reason = "permission"
	limit       reason = "limit"
	failed      reason = "failed"
)

var reasons = []reason{conflict, unconfirmed, own, guarded, elsewhere, permission, limit, failed}

const (
	// patience is for how many passes in a row an id must be missing, as the kernel may skip one
	// while others come and go.
	patience = 2
	// A port that cannot be held is tried again, at first after firstRetry.
	firstRetry, lastRetry = time.Second, 30 * time.Second
)

// A guard holds the ports of the connection manager's ids. It is for one goroutine.
type guard struct {
	ask   func() (view, error)
	max   int // sockets
	log   *slog.Logger
	clock func() time.Time

	pass     uint64
	held     int
	ports    map[uint16][]*hold
	troubles map[place]*trouble
	seen     int // ids that have a port
	pages    []statpage.Process
	scanned  bool
	hidden   bool

	conflicts uint64          // of all passes
	said      map[reason]bool // what a line of the log was written for, and is still so
}

// A hold is a kernel socket.
type hold struct {
	place
	socket *iwarp.Reservation
	pass   uint64 // in which it was last wanted
	why    *want
}

// A trouble is a place that is wanted and not held.
type trouble struct {
	*want
	reason reason
	detail string
	pass   uint64
	next   time.Time // to try again
	wait   time.Duration
}

func newGuard(ask func() (view, error), max int, log *slog.Logger) *guard {
	return &guard{ask: ask, max: max, log: log, clock: time.Now, ports: make(map[uint16][]*hold), troubles: make(map[place]*trouble), said: make(map[reason]bool)}
}

// look makes one pass: it holds what is wanted and gives back what is not. After an error, which
// tells that the kernel did not answer, all stays as it is.
func (g *guard) look(ctx context.Context) error {
	v, err := g.ask()
	if err != nil {
		return err
	}
	g.pass++
	g.pages, g.scanned, g.seen = nil, false, 0
	for _, w := range v.wants() {
		g.seen += len(w.ids)
		g.serve(ctx, w)
	}
	g.sweep()
	return nil
}

// serve has the place of w held, if it can be.
func (g *guard) serve(ctx context.Context, w *want) {
	if g.covered(w) {
		g.solved(w)
		return
	}
	if t := g.troubles[w.place]; t != nil {
		t.pass, t.want = g.pass, w
		if g.clock().Before(t.next) {
			return
		}
	}
	why, detail := g.take(ctx, w)
	if why == "" {
		g.solved(w)
		g.log.Debug("port held", "port", w.String(), "device", w.devices(), "program", w.programs())
		return
	}
	g.failed(w, why, detail)
}

// covered reports whether all of w is held, and has what is held of it stay so.
func (g *guard) covered(w *want) bool {
	missing := w.netdevs()
	for _, h := range g.ports[w.port] {
		if h.overlaps(w.place) {
			h.pass = g.pass
		}
		missing = slices.DeleteFunc(missing, func(netdev string) bool {
			p := w.place
			p.device = netdev
			return h.covers(p)
		})
	}
	return len(missing) == 0
}

func (g *guard) solved(w *want) {
	if t := g.troubles[w.place]; t != nil {
		if t.reason.loud() {
			g.log.Info("port is held after all", "port", w.String(), "device", w.devices(), "program", w.programs())
		}
		delete(g.troubles, w.place)
	}
}

// loud reports whether an operator should know.
func (r reason) loud() bool {
	return r == conflict || r == permission || r == limit || r == failed
}

func (g *guard) failed(w *want, why reason, detail string) {
	t := g.troubles[w.place]
	changed := t == nil || t.reason != why
	if t == nil {
		t = &trouble{wait: firstRetry / 2}
		g.troubles[w.place] = t
	}
	first := !why.scarce() || !g.said[why]
	t.want, t.reason, t.detail, t.pass = w, why, detail, g.pass
	t.wait = min(2*t.wait, lastRetry)
	t.next = g.clock().Add(t.wait)
	if !changed {
		return
	}
	if why == conflict {
		g.conflicts++
	}
	level := slog.LevelDebug
	switch {
	case why.loud() && first:
		level = slog.LevelWarn
		g.said[why] = true
	case why == unconfirmed:
		level = slog.LevelInfo
	}
	g.log.Log(context.Background(), level, why.text(), "port", w.String(), "device", w.devices(), "program", w.programs(), "why", detail)
}

// scarce reports whether the reason concerns this program, so that the first port tells all.
func (r reason) scarce() bool { return r == permission || r == limit }

func (r reason) text() string {
	switch r {
	case conflict:
		return "port conflict: another program has the port of an RDMA program"
	case unconfirmed:
		return "port is in use, maybe by the RDMA program itself"
	case own:
		return "port is held by the RDMA program itself"
	case guarded:
		return "port is held by another portguard"
	case elsewhere:
		return "port is not of this network namespace"
	}
	return "port cannot be held"
}

// sweep gives back what has not been wanted for a while.
func (g *guard) sweep() {
	for port, list := range g.ports {
		kept := slices.DeleteFunc(list, func(h *hold) bool {
			if h.pass+patience > g.pass {
				return false
			}
			g.log.Debug("port given back", "port", h.String())
			g.drop(h)
			return true
		})
		if g.ports[port] = kept; len(kept) == 0 {
			delete(g.ports, port)
		}
	}
	there := make(map[reason]bool)
	for p, t := range g.troubles {
		if t.pass+patience <= g.pass {
			delete(g.troubles, p)
			continue
		}
		there[t.reason] = true
	}
	g.said = there
}

func (g *guard) drop(h *hold) {
	g.held--
	_ = h.socket.Release()
}

// close gives everything back.
func (g *guard) close() {
	for _, list := range g.ports {
		for _, h := range list {
			g.drop(h)
		}
	}
	clear(g.ports)
}

// take holds the place of w, and says why it does not.
func (g *guard) take(ctx context.Context, w *want) (reason, string) {
	if g.held >= g.max {
		return reasonOf(errTooMany, g.max)
	}
	if foreign(w) {
		return elsewhere, "it is of a process in another network namespace"
	}
	narrower := g.lend(w)
	var err error
	for _, p := range w.places() {
		e := g.hold(ctx, w, p)
		if errors.Is(e, syscall.EADDRINUSE) && p.network() == "tcp" {
			p.only6 = true // half is better than nothing
			_ = g.hold(ctx, w, p)
		}
		err = cmp.Or(err, e)
	}
	if err == nil {
		return "", ""
	}
	for _, p := range narrower { // a moment ago they could be held
		_ = g.hold(ctx, w, p)
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		return g.blame(w, err)
	}
	return reasonOf(err, g.max)
}

// lend gives back what is held of w, to hold all of it, and returns the places.
func (g *guard) lend(w *want) (list []place) {
	g.ports[w.port] = slices.DeleteFunc(g.ports[w.port], func(h *hold) bool {
		if !w.covers(h.place) {
			return false
		}
		list = append(list, h.place)
		g.drop(h)
		return true
	})
	return list
}

// hold makes a socket that has the place, unless there is one.
func (g *guard) hold(ctx context.Context, w *want, p place) error {
	if slices.ContainsFunc(g.ports[p.port], func(h *hold) bool { return h.covers(p) }) {
		return nil
	}
	if g.held >= g.max {
		return errTooMany
	}
	ps := new(iwarp.PortSpace)
	if p.device != "" {
		ps.Control = func(_, _ string, c syscall.RawConn) error { return bindTo(c, p.device) }
	}
	r, err := ps.Reserve(ctx, p.network(), p.address())
	if err != nil {
		return err
	}
	g.held++
	g.ports[p.port] = append(g.ports[p.port], &hold{place: p, socket: r, pass: g.pass, why: w})
	return nil
}

var errTooMany = errors.New("too many ports")

// reasonOf tells errors apart that say nothing of other programs.
func reasonOf(err error, most int) (reason, string) {
	is := func(list ...syscall.Errno) bool {
		return slices.ContainsFunc(list, func(e syscall.Errno) bool { return errors.Is(err, e) })
	}
	switch {
	case errors.Is(err, errTooMany):
		return limit, fmt.Sprintf("%d ports are held, which is all that --max allows", most)
	case is(syscall.EMFILE):
		return limit, err.Error() + "; raise LimitNOFILE= of the unit (ulimit -n)"
	case is(syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM):
		return limit, err.Error()
	case is(syscall.EACCES):
		return permission, err.Error() + "; a port that low takes the capability CAP_NET_BIND_SERVICE"
	case is(syscall.EPERM):
		return permission, err.Error()
	case is(syscall.EADDRNOTAVAIL):
		return elsewhere, err.Error()
	}
	return failed, err.Error()
}
