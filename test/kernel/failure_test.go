//go:build linux

package kernel

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/test/kernel/internal/agent"
)

// endless is more than a cell has time for.
var endless = flow{theirs: 1 << 40, ours: 1 << 40, chunk: 65536, theirEnd: "half", mine: "half"}

// underway starts the flow and returns once both ends have the connection.
func (f flow) underway(t *testing.T, g *guest, p pair, flags ...string) (goEnd, cEnd *agent.Process) {
	t.Helper()
	return f.against(t, g, p, f, flags...)
}

// against is underway with a flow of the C end's own.
func (f flow) against(t *testing.T, g *guest, p pair, theirs flow, flags ...string) (goEnd, cEnd *agent.Process) {
	t.Helper()
	goEnd, cEnd = g.roles(t, p,
		func(server bool) []string {
			return slices.Concat([]string{"go-stream", "-crc=false"}, flags, f.args(p, server, false))
		},
		func(server bool) []string { return theirs.cStream(p, server) })
	require.NoError(t, goEnd.WaitOutput("Transport:soft"))
	return goEnd, cEnd
}

// One end is killed in the middle of a stream, or the link is cut.
func TestFailures(t *testing.T) {
	g := theGuest(t)
	r := g.route("veth")
	const sigkill = 9
	for _, goServes := range []bool{false, true} {
		t.Run("go="+roleName(goServes), func(t *testing.T) {
			named := func(t *testing.T, what string) {
				record(t, cell{"stream on rsockets (siw)", roleName(goServes), r.name, what})
			}
			g.captured(t, r.dev, func(t *testing.T, want expected) {
				o := mpaOptions{rev: 2}
				// broken is a test of a session that ends within a frame, after which nothing is left.
				broken := func(name, what string, test func(t *testing.T, p pair)) {
					t.Run(name, func(t *testing.T) {
						named(t, what)
						before := g.rdmaResources(t)
						p, s := g.newPair(goServes, r), o.stream(goServes)
						s.broken = true
						want.add(t, p, s)
						test(t, p)
						g.awaitResources(t, before)
					})
				}
				broken("they are killed", "the peer is killed", func(t *testing.T, p pair) {
					goEnd, cEnd := endless.underway(t, g, p, "-fails", "eof,reset")
					require.NoError(t, cEnd.Signal(sigkill))
					succeeds(t, goEnd)
				})
				broken("we are killed", "we are killed", func(t *testing.T, p pair) {
					goEnd, cEnd := endless.underway(t, g, p)
					require.NoError(t, goEnd.Signal(sigkill))
					fails(t, cEnd)
				})
				broken("they close", "the peer closes while we send", func(t *testing.T, p pair) {
					all := flow{chunk: 65536, ours: endless.ours, theirEnd: "close"}
					some := all
					some.ours = 1 << 20
					goEnd, cEnd := all.against(t, g, p, some, "-fails", "eof,reset")
					succeeds(t, cEnd)
					succeeds(t, goEnd)
				})
				broken("we close", "we close while the peer sends", func(t *testing.T, p pair) {
					some := flow{chunk: 65536, theirs: 1 << 20, mine: "close"}
					all := some
					all.theirs = endless.theirs
					goEnd, cEnd := some.against(t, g, p, all)
					succeeds(t, goEnd)
					fails(t, cEnd)
				})
				t.Run("link cut for a second", func(t *testing.T) {
					named(t, "the link is cut for a second")
					f := flow{theirs: 6 << 20, ours: 6 << 20, chunk: 65536, theirEnd: "last", mine: "half"}
					p := g.newPair(goServes, r)
					want.add(t, p, o.stream(goServes))
					goEnd, cEnd := f.underway(t, g, p)
					// Not by the interface, whose end would be that of siw's connections.
					g.run(t, "sh", "-ec", "tc qdisc add dev veth0 root netem loss 100%; sleep 1; tc qdisc del dev veth0 root")
					succeeds(t, goEnd)
					succeeds(t, cEnd)
				})
				for _, c := range []struct{ name, netem, proof string }{
					{"loss of 1 %", "loss 1%", `dropped [1-9]`},
					{"delay of 50 ms", "delay 50ms", `delay 50ms\s+Sent \d{7}`},
					{"reordering", "delay 5ms reorder 25% 50%", `queued out of order: [1-9]`}, // which tc does not count
				} {
					t.Run(c.name, func(t *testing.T) {
						named(t, "network with "+c.name)
						g.netem(t, c.netem)
						before := g.outOfOrder(t, r)
						// The last to finish is the one who reads to the end: what it says of space
						// would otherwise find our end gone.
						f := flow{theirs: 1 << 20, ours: 1 << 20, chunk: 10_000, theirEnd: "last", mine: "half"}
						p := g.newPair(goServes, r)
						want.add(t, p, o.stream(goServes))
						f.between(t, g, p, o)
						require.Regexp(t, c.proof, fmt.Sprintf("%s queued out of order: %d",
							g.run(t, "tc", "-s", "qdisc", "show", "dev", "veth0"), g.outOfOrder(t, r)-before))
					})
				}
			})
			t.Run("link cut", func(t *testing.T) { // which ends a capture as well
				named(t, "the link is cut for good, and a deadline passes")
				// More than is through before the cut.
				f := flow{theirs: 30 << 20, ours: 30 << 20, chunk: 65536, theirEnd: "last", mine: "half"}
				goEnd, cEnd := f.underway(t, g, g.newPair(goServes, r), "-d", "5s", "-fails", "timeout")
				g.link(t, "down")
				succeeds(t, goEnd)
				cEnd.Kill()
			})
		})
	}
	awaitDecodings(t)
}

// outOfOrder counts the segments that came too early to either end of the route.
func (g *guest) outOfOrder(t *testing.T, r route) (n int) {
	t.Helper()
	for _, at := range []*place{&g.place, r.ours} {
		n += counted(t, at, "TcpExtTCPOFOQueue")
	}
	return n
}

// counted is a counter of the kernel's TCP in the network namespace of the place.
func counted(t *testing.T, at *place, counter string) int {
	t.Helper()
	said := strings.Fields(lastLine(at.run(t, "nstat", "-asz", counter)))
	require.Len(t, said, 3)
	n, err := strconv.Atoi(said[1])
	require.NoError(t, err)
	return n
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

// netem makes the link bad in both directions until the end of the test, for packets that are each
// one segment.
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
