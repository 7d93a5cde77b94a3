//go:build linux

package kernel

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
)

// direct is what riostream does: transfers into memory that the other end exposes.
type direct struct {
	size, count, iterations int
	mode                    []string // its -T
}

// Both ends compare what has been placed where -T v is among the options. With -T a a server waits
// for 5 s in rpoll.
var directs = []direct{
	{64, 50, 2, words("-T b -T v")}, {1000, 100, 1, words("-T b")}, {4096, 50, 2, words("-T a -T b -T v")}, {1000, 50, 2, words("-T n -T v")},
	{65536, 10, 1, words("-T b -T v")}, {1 << 20, 2, 1, words("-T b -T v")}, {4 << 20, 1, 1, words("-T b -T v")},
}

func (d direct) String() string { return fmt.Sprintf("%dx%dx%d", d.size, d.count, d.iterations) }

func (d direct) common() []string {
	return []string{"-S", strconv.Itoa(d.size), "-C", strconv.Itoa(d.count), "-I", strconv.Itoa(d.iterations)}
}

func (d direct) where(p pair, server bool) []string {
	if server {
		return []string{"-b", p.addr, "-p", p.port}
	}
	return []string{"-s", p.addr, "-p", p.port}
}

func (d direct) theirs(p pair, server bool) []string {
	return slices.Concat([]string{"riostream"}, d.mode, d.common(), d.where(p, server))
}

func (d direct) ours(p pair, server bool, o mpaOptions) []string {
	verify := fmt.Sprintf("-verify=%t", slices.Contains(d.mode, "v"))
	return slices.Concat([]string{"go-riostream", verify}, o.flags(), d.common(), d.where(p, server))
}

// riostreamMPA are the options of riostream, the first two of them on all routes.
var riostreamMPA = []mpaOptions{{rev: 2, ourCRC: true}, {rev: 2}, {rev: 2, siwCRC: true}, {rev: 1}, {rev: 1, siwCRC: true, ourCRC: true}}

// librdmacm's riostream on siw and memory that a Conn of ours exposes, and writes into.
func TestRiostream(t *testing.T) {
	g := theGuest(t)
	for _, d := range directs {
		t.Run("control/"+d.String(), func(t *testing.T) {
			record(t, cell{"riostream (siw)", "control", "eth0", "direct placement"})
			p := g.inGuest(false)
			g.control(t, p, func(server bool) []string { return d.theirs(p, server) })
		})
	}
	wanted := func(m meeting) bool { return m.nth == 0 || *fullFlag && (m.nth == 1 || m.route.name == "veth") }
	pairs(t, someRoutes, riostreamMPA, wanted, func(t *testing.T, g *guest, m meeting) {
		some := directs[4:5]
		switch {
		case m.nth == 0 && m.route.name == "veth":
			some = directs
		case m.nth == 0:
			some = directs[3:5]
		}
		for _, d := range some {
			t.Run(d.String(), func(t *testing.T) {
				g.play(t, m, m.cell("riostream (siw)", "direct placement, "),
					func(p pair, server bool) []string { return d.ours(p, server, m.o) }, d.theirs)
			})
		}
	})
}
