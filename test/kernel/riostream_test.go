//go:build linux

package kernel

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
)

// direct is what riostream does: transfers into memory that the other end exposes.
type direct struct{ size, count, iterations int }

var directs = []direct{{64, 50, 2}, {1000, 100, 1}, {4096, 100, 1}, {65536, 20, 1}, {1 << 20, 5, 1}}

func (d direct) common() []string {
	return []string{"-S", strconv.Itoa(d.size), "-C", strconv.Itoa(d.count), "-I", strconv.Itoa(d.iterations)}
}

func (d direct) theirs(p pair, server bool) []string {
	where := []string{"-s", p.dial, "-p", p.dialPort}
	if server {
		where = []string{"-b", p.listen, "-p", p.port}
	}
	return slices.Concat([]string{"riostream", "-T", "b"}, d.common(), where)
}

func (d direct) ours(p pair, server bool) []string {
	return append([]string{"go-riostream"}, d.theirs(p, server)[3:]...)
}

// librdmacm's riostream on siw and memory that a Conn of ours exposes, and writes into.
func TestRiostream(t *testing.T) {
	g := theGuest(t)
	for _, d := range directs {
		name := fmt.Sprintf("%dx%dx%d", d.size, d.count, d.iterations)
		t.Run("control/"+name, func(t *testing.T) {
			record(t, cell{"riostream (siw)", "control", "eth0", "direct placement"})
			p := g.inGuest(t, false)
			g.control(t, p, func(server bool) []string { return d.theirs(p, server) })
		})
		for _, goServes := range []bool{false, true} {
			for _, r := range routes(t, g) {
				if r.name != "veth" && (r.name != "lo" || !*fullFlag) {
					continue
				}
				t.Run(fmt.Sprintf("go=%s/%s/%s", roleName(goServes), r.name, name), func(t *testing.T) {
					record(t, cell{"riostream (siw)", roleName(goServes), r.name, "direct placement"})
					p := g.newPair(t, goServes, r)
					goEnd, cEnd := g.roles(t, p,
						func(server bool) []string { return d.ours(p, server) },
						func(server bool) []string { return d.theirs(p, server) })
					succeeds(t, goEnd)
					succeeds(t, cEnd)
					g.noTerminate(t)
				})
			}
		}
	}
}
