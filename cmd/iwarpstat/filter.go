package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/rdmanet/iwarp"
)

// A filter says which rows are wanted. All of its conditions must hold.
type filter []condition

type condition struct {
	not bool
	row func(*row) bool
}

// A row is what conditions look at, of any list.
type row struct {
	local, peer               netip.AddrPort
	state, path, reason, text string
	process                   process
	offloaded, connects       bool
}

// parseFilter understands conditions as ss has them: words in pairs, such as "state established" or
// "sport :80", with "not" before what must not be and "and" between them where one likes.
func parseFilter(words []string) (f filter, err error) {
	for i := 0; i < len(words); i++ {
		if strings.ContainsAny(words[i], " \t") { // several in quotes, as ss takes them
			words = slices.Concat(words[:i], strings.Fields(words[i]), words[i+1:])
		}
		if i == len(words) {
			break
		}
		not := false
		switch strings.ToLower(words[i]) {
		case "and":
			continue
		case "not", "!":
			not = true
			i++
		}
		if i >= len(words) {
			return nil, fmt.Errorf("a condition is missing after %q", words[i-1])
		}
		key := strings.ToLower(words[i])
		if key == "offloaded" || key == "fallback" {
			f = append(f, condition{not, flagCondition(key)})
			continue
		}
		make, ok := conditions[key]
		if !ok {
			return nil, fmt.Errorf("unknown condition %q; use %s, fallback or offloaded", words[i], strings.Join(names(), ", "))
		}
		if i++; i < len(words) && (words[i] == "=" || words[i] == "==") { // as ss allows
			i++
		}
		if i >= len(words) {
			return nil, fmt.Errorf("condition %q has no value", key)
		}
		c, err := make(words[i])
		if err != nil {
			return nil, fmt.Errorf("condition %q: %w", key, err)
		}
		f = append(f, condition{not, c})
	}
	return f, nil
}

func names() (list []string) {
	for name := range conditions {
		list = append(list, name)
	}
	slices.Sort(list)
	return list
}

func flagCondition(key string) func(*row) bool {
	if key == "offloaded" {
		return func(r *row) bool { return r.offloaded }
	}
	wanted := iwarp.ReasonPolicy.String()
	return func(r *row) bool { return r.connects && r.path == plainTCP && r.reason != "" && r.reason != wanted }
}

var conditions = map[string]func(value string) (func(*row) bool, error){
	"state": func(v string) (func(*row) bool, error) {
		return func(r *row) bool { return strings.EqualFold(r.state, v) }, nil
	},
	"path": func(v string) (func(*row) bool, error) {
		return func(r *row) bool { return strings.EqualFold(r.path, v) }, nil
	},
	"reason": func(v string) (func(*row) bool, error) { // part of it is enough
		v = strings.ToLower(v)
		return func(r *row) bool {
			return strings.Contains(r.reason, v) || strings.Contains(strings.ToLower(r.text), v)
		}, nil
	},
	"process": func(v string) (func(*row) bool, error) {
		return func(r *row) bool { return r.process.Name == v }, nil
	},
	"port": func(v string) (func(*row) bool, error) {
		return portCondition(v, func(r *row, p uint16) bool { return r.local.Port() == p || r.peer.Port() == p })
	},
	"sport": func(v string) (func(*row) bool, error) {
		return portCondition(v, func(r *row, p uint16) bool { return r.local.Port() == p })
	},
	"dport": func(v string) (func(*row) bool, error) {
		return portCondition(v, func(r *row, p uint16) bool { return r.peer.Port() == p })
	},
	"addr": func(v string) (func(*row) bool, error) {
		return addrCondition(v, func(r *row, in func(netip.AddrPort) bool) bool { return in(r.local) || in(r.peer) })
	},
	"src": func(v string) (func(*row) bool, error) {
		return addrCondition(v, func(r *row, in func(netip.AddrPort) bool) bool { return in(r.local) })
	},
	"dst": func(v string) (func(*row) bool, error) {
		return addrCondition(v, func(r *row, in func(netip.AddrPort) bool) bool { return in(r.peer) })
	},
}

func portCondition(v string, holds func(*row, uint16) bool) (func(*row) bool, error) {
	p, err := strconv.ParseUint(strings.TrimPrefix(v, ":"), 10, 16)
	if err != nil {
		return nil, fmt.Errorf("%q is not a port", v)
	}
	return func(r *row) bool { return holds(r, uint16(p)) }, nil
}

func addrCondition(v string, holds func(*row, func(netip.AddrPort) bool) bool) (func(*row) bool, error) {
	if a, err := netip.ParseAddrPort(v); err == nil {
		same := func(b netip.AddrPort) bool { return bare(b) == bare(a) }
		return func(r *row) bool { return holds(r, same) }, nil
	}
	prefix, err := netip.ParsePrefix(v)
	if err != nil {
		a, err := netip.ParseAddr(strings.Trim(v, "[]"))
		if err != nil {
			return nil, fmt.Errorf("%q is no address, prefix or address with a port", v)
		}
		prefix = netip.PrefixFrom(a, a.BitLen())
	}
	in := func(a netip.AddrPort) bool { return prefix.Contains(a.Addr().WithZone("")) }
	return func(r *row) bool { return holds(r, in) }, nil
}

func (f filter) wants(r row) bool {
	for _, c := range f {
		if c.row(&r) == c.not {
			return false
		}
	}
	return true
}

// apply drops what is not wanted.
func (f filter) apply(r *report) {
	r.unfiltered = inventoryOf(r)
	r.Connections = slices.DeleteFunc(r.Connections, func(c connection) bool { return !f.wants(c.row()) })
	r.Listeners = slices.DeleteFunc(r.Listeners, func(l listener) bool {
		return !f.wants(row{local: l.Local, state: l.State, process: l.process})
	})
	r.Ports = slices.DeleteFunc(r.Ports, func(p port) bool {
		return !f.wants(row{local: p.Local, state: p.State, process: p.process})
	})
	r.RDMA = slices.DeleteFunc(r.RDMA, func(v verbs) bool { return !f.wants(v.row()) })
}

func (c *connection) row() row {
	return row{c.Local, c.Peer, c.State, c.Path, c.Reason, c.Detail, c.process, c.Offloaded, true}
}

func (v *verbs) row() row {
	return row{local: v.Local, peer: v.Peer, state: v.State, path: pathRDMA, process: v.process, offloaded: v.Offloaded}
}
