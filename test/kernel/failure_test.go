//go:build linux

package kernel

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/test/kernel/internal/agent"
)

// endless is more than a cell has time for.
var endless = flow{theirs: 1 << 40, ours: 1 << 40, chunk: 65536, theirEnd: "half", mine: "half"}

// veths is the route on which the network can be broken.
func (g *guest) veths(t *testing.T) route {
	t.Helper()
	for _, r := range routes(t, g) {
		if r.name == "veth" {
			return r
		}
	}
	t.Fatal("no such route")
	return route{}
}

// underway starts the flow and returns once both ends have the connection.
func (f flow) underway(t *testing.T, g *guest, p pair, flags ...string) (goEnd, cEnd *agent.Process) {
	t.Helper()
	goEnd, cEnd = g.roles(t, p,
		func(server bool) []string {
			return slices.Concat([]string{"go-stream", "-crc=false"}, flags, f.args(p, server, false))
		},
		func(server bool) []string { return append([]string{"c-stream"}, f.args(p, server, true)...) })
	require.NoError(t, goEnd.WaitOutput("Transport:soft"))
	return goEnd, cEnd
}

// One end is killed in the middle of a stream, or the link is cut.
func TestFailures(t *testing.T) {
	g := theGuest(t)
	r := g.veths(t)
	const sigkill = 9
	for _, goServes := range []bool{false, true} {
		t.Run("go="+roleName(goServes), func(t *testing.T) {
			named := func(t *testing.T, what string) {
				record(t, cell{"stream on rsockets (siw)", roleName(goServes), r.name, what})
			}
			t.Run("they are killed", func(t *testing.T) {
				named(t, "the peer is killed")
				before := g.rdmaResources(t)
				goEnd, cEnd := endless.underway(t, g, g.newPair(t, goServes, r), "-fails", "eof,reset")
				require.NoError(t, cEnd.Signal(sigkill))
				succeeds(t, goEnd)
				g.awaitResources(t, before)
			})
			t.Run("we are killed", func(t *testing.T) {
				named(t, "we are killed")
				before := g.rdmaResources(t)
				goEnd, cEnd := endless.underway(t, g, g.newPair(t, goServes, r))
				require.NoError(t, goEnd.Signal(sigkill))
				fails(t, cEnd)
				g.awaitResources(t, before)
			})
			t.Run("link cut", func(t *testing.T) {
				named(t, "the link is cut for good, and a deadline passes")
				// What is to be sent would be through by then.
				f := flow{theirs: 60 << 20, ours: 60 << 20, chunk: 65536, theirEnd: "last", mine: "half"}
				goEnd, cEnd := f.underway(t, g, g.newPair(t, goServes, r), "-d", "10s", "-fails", "timeout")
				g.link(t, "down")
				succeeds(t, goEnd)
				cEnd.Kill()
			})
			t.Run("link cut for a second", func(t *testing.T) {
				named(t, "the link is cut for a second")
				f := flow{theirs: 20 << 20, ours: 20 << 20, chunk: 65536, theirEnd: "last", mine: "half"}
				goEnd, cEnd := f.underway(t, g, g.newPair(t, goServes, r))
				// Not by the interface, whose end would be that of siw's connections.
				g.run(t, "sh", "-ec", "tc qdisc add dev veth0 root netem loss 100%; sleep 1; tc qdisc del dev veth0 root")
				succeeds(t, goEnd)
				succeeds(t, cEnd)
			})
			g.captured(t, r.dev, func(t *testing.T, want expected) {
				for _, c := range []struct{ name, netem, proof string }{
					{"loss of 1 %", "loss 1%", `dropped [1-9]`}, {"delay of 50 ms", "delay 50ms", ""}, {"reordering", "delay 5ms reorder 25% 50%", ""}, // which tc does not count
				} {
					t.Run(c.name, func(t *testing.T) {
						named(t, "network with "+c.name)
						g.netem(t, c.netem)
						// The last to finish is the one who reads to the end: what it says of space would otherwise find our end gone.
						f := flow{theirs: 1 << 20, ours: 1 << 20, chunk: 10_000, theirEnd: "last", mine: "half"}
						p, o := g.newPair(t, goServes, r), mpaOptions{rev: 2}
						want.add(t, p, o.stream(goServes))
						f.between(t, g, p, o)
						require.Regexp(t, c.proof, g.run(t, "tc", "-s", "qdisc", "show", "dev", "veth0"))
					})
				}
			})
		})
	}
	awaitDecodings(t)
}

// fails waits for the end of a program, which must be a failure.
func fails(t *testing.T, p *agent.Process) {
	t.Helper()
	exit, err := p.Wait()
	require.NoError(t, err)
	require.Equal(t, 1, exit, p.Stdout())
}

// awaitResources waits until the kernel holds no more for programs than before.
func (g *guest) awaitResources(t *testing.T, before string) {
	t.Helper()
	for limit := time.Now().Add(cellLimit); g.rdmaResources(t) != before; {
		require.True(t, time.Now().Before(limit), "%s, was %s", g.rdmaResources(t), before)
	}
	g.healthy(t)
}

// link sets the link between the guest and its namespace up or down, until the end of the test.
func (g *guest) link(t *testing.T, state string) {
	t.Helper()
	g.run(t, "ip", "link", "set", "veth0", state)
	t.Cleanup(func() { g.run(t, "ip", "link", "set", "veth0", "up") })
}

// netem makes the link bad in both directions until the end of the test, for packets that are each one segment.
func (g *guest) netem(t *testing.T, how string) {
	t.Helper()
	both := func(verb, how string, segs int) {
		for dev, at := range map[string]string{"veth0": "", "veth1": "-n peer"} {
			g.run(t, words("tc %s qdisc %s dev %s root %s", at, verb, dev, how)...)
			g.run(t, words("ip %s link set dev %s gso_max_segs %d", at, dev, segs)...)
		}
	}
	both("add", "netem "+how, 1)
	t.Cleanup(func() { both("del", "", 65535) })
}
