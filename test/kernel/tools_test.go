//go:build linux

package kernel

import (
	"testing"
)

// limited is a prefix that bounds a program.
var limited = []string{"timeout", "40"}

// Programs of rdma-core that only talk to themselves here: what works on this kernel between two C
// ends.
func TestToolsControl(t *testing.T) {
	g := theGuest(t)
	for _, s := range []swap{
		{"ucmatose", func(p pair) []string { return words("ucmatose -b %s -p %s", p.addr, p.port) },
			func(p pair) []string { return words("ucmatose -s %s -p %s", p.addr, p.port) }},
	} {
		t.Run(s.name, func(t *testing.T) {
			p := g.inGuest(false)
			why := g.swap(t, p, append(limited, s.server(p)...), append(limited, s.client(p)...))
			outcomeOf(t, cell{s.name + " (siw)", "control", "eth0", "both ends are C"}, s.name, why)
		})
	}
}
