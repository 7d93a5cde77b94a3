//go:build linux

package kernel

import (
	"slices"
	"strings"
	"testing"
)

// A mode is options of rstream beside those of xfer.
type mode struct {
	name    string
	args    []string
	preload bool // it uses the kernel's sockets then, which librspreload.so makes rsockets
	env     []string
	quick   bool
	x       xfer // what is transferred
}

// modes are all that rstream knows, beside blocking and non-blocking calls. Left out are -T s
// without the library, which is plain TCP, and the run without -S, -C and -I, as a million round
// trips take hours here.
var modes = []mode{
	{name: "async, blocking", args: words("-T a -T b"), quick: true},
	{name: "async, non-blocking", args: words("-T a")},
	{name: "resolve", args: words("-T b -T r"), quick: true},
	{name: "resolve, async", args: words("-T a -T b -T r")},
	{name: "keepalive", args: words("-T b -k 1"), x: xfer{size: 64, count: 50, iterations: 30}},
	{name: "small buffers", args: words("-T b -B 2048")},
	{name: "large buffers", args: words("-T n -B 1000000"), x: xfer{size: 1 << 20, count: 3, iterations: 1}},
	{name: "sockets, preloaded", args: words("-T s -T b"), preload: true, quick: true},
	{name: "sockets, non-blocking, preloaded", args: words("-T s -T n"), preload: true},
	{name: "fork, preloaded", args: words("-T f -T b"), preload: true, env: []string{"RDMAV_FORK_SAFE=1"}},
	{name: "gid", args: words("-f gid -T b")},
}

func (m mode) transfer() xfer {
	if m.x.size == 0 {
		m.x = xfer{size: 1000, count: 100, iterations: 2}
	}
	return m.x
}

func (m mode) theirs(p pair, server bool) []string {
	x := m.transfer()
	a := slices.Concat(words("timeout 40 rstream"), m.args, words("-T v"), x.common(), x.where(p, server))
	if m.preload {
		return slices.Concat(preload[:2], m.env, a)
	}
	return a
}

// Every mode of rstream, between two C ends and with a Conn of ours.
func TestRstreamModes(t *testing.T) {
	g := theGuest(t)
	some, tries := slices.DeleteFunc(slices.Clone(modes), func(m mode) bool { return !m.quick }), 1
	if *fullFlag {
		some, tries = modes, 3 // some fail now and then; what stalls does so always
	}
	for _, m := range some {
		t.Run(m.name+"/control", func(t *testing.T) {
			for range tries {
				p := g.inGuest(false)
				why := g.swap(t, p, m.theirs(p, true), m.theirs(p, false))
				outcomeOf(t, cell{"rstream (siw)", "control", "eth0", m.name}, "rstream "+m.name, why)
				if !strings.HasSuffix(why, "fails") {
					break
				}
			}
		})
	}
	g.captured(t, "lo", func(t *testing.T, want expected) {
		for _, m := range some {
			for _, goServes := range []bool{false, true} {
				t.Run(m.name+"/go="+roleName(goServes), func(t *testing.T) {
					p := g.inGuest(goServes)
					x, o := m.transfer(), mpaOptions{rev: 2, ourCRC: true}
					var why string
					if goServes {
						why = g.swap(t, p, x.ours(p, true, o), m.theirs(p, false))
					} else {
						why = g.swap(t, p, m.theirs(p, true), x.ours(p, false, o))
					}
					s := o.stream(goServes)
					s.broken = why != ""
					want.add(t, p, s)
					outcomeOf(t, cell{"rstream (siw)", roleName(goServes), "eth0", m.name}, "rstream "+m.name, why)
				})
			}
		}
	})
	awaitDecodings(t)
}
