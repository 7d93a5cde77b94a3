package main

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/cmd/internal/proc"
	"github.com/rdmanet/iwarp/internal/statpage"
)

// program is the name of this one.
const program = "iwarp-portguard"

// blame says who has the place of w, by the error of the attempt to hold it.
func (g *guard) blame(w *want, err error) (reason, string) {
	var c *iwarp.ConflictError
	if !errors.As(err, &c) {
		return conflict, err.Error()
	}
	pids := w.pids()
	holders := slices.DeleteFunc(c.Holders(), func(h iwarp.Holder) bool { return h.PID == os.Getpid() })
	if len(holders) == 0 {
		return g.blameUnseen(w, pids)
	}
	worst, said := own, ""
	for _, h := range holders {
		if r := judge(h, w, pids); rank(r) > rank(worst) || said == "" {
			worst, said = r, h.String()
		}
	}
	return worst, said
}

// rank sorts reasons by how bad they are.
func rank(r reason) int { return slices.Index([]reason{own, guarded, unconfirmed, conflict}, r) }

// judge says whose the holder is, to somebody who wants w.
func judge(h iwarp.Holder, w *want, pids processes) reason {
	switch {
	case pids[h.PID]:
		return own
	case h.PID != 0 && h.Process == program && h.State == "bound":
		return guarded
	case h.PID != 0:
		return conflict
	case w.drivers && h.Device != "" && w.addr.IsUnspecified(): // as a driver's own socket is
		return own
	case !h.Kernel && pids.maybe(h.UID):
		return unconfirmed
	}
	return conflict
}

// blameUnseen is blame where the kernel does not list who has the port, which is so for sockets
// that are only bound on kernels before 6.8. Programs that use this module tell by themselves.
func (g *guard) blameUnseen(w *want, pids processes) (reason, string) {
	pages, hidden := g.statistics()
	for _, p := range pages {
		if p.Page == nil || p.PID == os.Getpid() || !slices.ContainsFunc(p.Page.Entries, func(e statpage.Entry) bool { return has(&e, w) }) {
			continue
		}
		said := fmt.Sprintf("reserved by %s (pid %d)", p.Name, p.PID)
		switch {
		case pids[p.PID]:
			return own, said
		case p.Name == program:
			return guarded, said
		}
		return conflict, said
	}
	const unseen = "by a socket that is bound and does not listen, which this kernel does not list"
	if hidden {
		return unconfirmed, unseen + "; with the capability CAP_SYS_PTRACE more could be said"
	}
	return conflict, unseen
}

// has reports whether the record is of something that has a port of w.
func has(e *statpage.Entry, w *want) bool {
	if e.Kind != statpage.KindPort && e.Kind != statpage.KindListener || e.Local.Port() != w.port {
		return false
	}
	own := place{addr: e.Local.Addr().Unmap(), port: w.port}
	return own.overlaps(w.place)
}

// statistics returns the pages of all programs that use this module, and whether some may not be
// looked into. It looks once in a pass.
func (g *guard) statistics() ([]statpage.Process, bool) {
	if !g.scanned {
		g.scanned = true
		census, err := statpage.Scan()
		g.pages, g.hidden = census.Processes, err != nil || census.Hidden > 0
	}
	return g.pages, g.hidden
}

// processes are those whose the ids of a want are.
type processes map[int]bool

func (w *want) pids() processes {
	list := make(processes)
	for i := range w.ids {
		if thread := w.ids[i].PID; thread != 0 {
			list[proc.Leader(thread)] = true
		}
	}
	return list
}

// maybe reports whether a socket of the user can be one of the processes'.
func (p processes) maybe(uid int) bool {
	for pid := range p {
		if u, ok := proc.User(pid); !ok || int(u) == uid {
			return true
		}
	}
	return false
}

// foreign reports whether w is of processes that are all known to be in other network namespaces.
// Ids of the kernel's own, and of processes that are not seen, are taken to be of this one.
func foreign(w *want) bool {
	pids := w.pids()
	if slices.ContainsFunc(w.ids, func(c id) bool { return c.PID == 0 }) {
		return false
	}
	if len(pids) == 0 {
		return false
	}
	for pid := range pids {
		if !proc.Elsewhere(pid) {
			return false
		}
	}
	return true
}
