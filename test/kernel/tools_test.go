//go:build linux

package kernel

import (
	"testing"
)

// limited is a prefix that bounds a program.
var limited = []string{"timeout", "10"}

// Programs of rdma-core and perftest that only talk to themselves here: what works on this kernel between two C ends.
func TestToolsControl(t *testing.T) {
	g := theGuest(t)
	for _, s := range []swap{
		{"ib_send_lat", func(p pair) []string { return words("ib_send_lat -R -d siw1 -n 100 -p %s", p.port) },
			func(p pair) []string { return words("ib_send_lat -R -d siw1 -n 100 -p %s %s", p.dialPort, p.dial) }},
		{"ib_write_bw", func(p pair) []string { return words("ib_write_bw -R -d siw1 -n 100 -p %s", p.port) },
			func(p pair) []string { return words("ib_write_bw -R -d siw1 -n 100 -p %s %s", p.dialPort, p.dial) }},
		{"ib_read_lat", func(p pair) []string { return words("ib_read_lat -R -d siw1 -n 100 -p %s", p.port) },
			func(p pair) []string { return words("ib_read_lat -R -d siw1 -n 100 -p %s %s", p.dialPort, p.dial) }},
		{"ucmatose", func(p pair) []string { return words("ucmatose -b %s -p %s", p.listen, p.port) },
			func(p pair) []string { return words("ucmatose -s %s -p %s", p.dial, p.dialPort) }},
	} {
		t.Run(s.name, func(t *testing.T) {
			p := g.inGuest(t, false)
			why := g.swap(t, p, append(limited, s.server(p)...), append(limited, s.client(p)...))
			outcomeOf(t, cell{s.name + " (siw)", "control", "eth0", "both ends are C"}, s.name, why)
		})
	}
	t.Run("rcopy", func(t *testing.T) {
		record(t, cell{"rcopy (siw)", "control", "eth0", "both ends are C"})
		p := g.inGuest(t, false)
		s := g.start(t, words("rcopy -p %s", p.port)...)
		g.awaitListener(t, s, p)
		g.run(t, words("timeout 10 rcopy /usr/bin/curl %s:/tmp/rcopy -p %s", p.dial, p.dialPort)...)
		g.run(t, "cmp", "/usr/bin/curl", "/tmp/rcopy")
	})
}
