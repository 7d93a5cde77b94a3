//go:build linux

package kernel

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const volumeBytes = 1_300_000_000

// volume is a flow in which every byte is compared, as many each way at once.
var volume = flow{theirs: volumeBytes, ours: volumeBytes, chunk: 1 << 20, theirEnd: "half", mine: "last"}

// volumePair is a pair on lo with time for that.
func (g *guest) volumePair(t *testing.T, goServes bool) pair {
	t.Helper()
	p := g.newPair(t, goServes, route{name: "lo", ours: &g.place, addr: loAddr, own: loAddr})
	p.limit = 5 * time.Minute
	return p
}

// Ten gigabytes between a Conn of ours and rsockets, every byte compared: as many each way at once, in both roles, with CRC and without.
func TestVolume(t *testing.T) {
	if !*fullFlag {
		t.Skip("10 GB: run with -full")
	}
	g := theGuest(t)
	what := func(f flow) string { return fmt.Sprintf("%.2f GB each way", float64(f.ours)/1e9) }
	t.Run("control", func(t *testing.T) {
		f := volume
		f.theirs, f.ours = f.theirs/10, f.ours/10
		record(t, cell{"stream on rsockets (siw)", "control", "lo", what(f)})
		p := g.volumePair(t, false)
		g.control(t, p, f.onRsockets(p))
	})
	total := 0
	for _, goServes := range []bool{false, true} {
		for _, o := range []mpaOptions{{rev: 2, ourCRC: true}, {rev: 2}} {
			t.Run("go="+roleName(goServes)+"/"+o.name(), func(t *testing.T) {
				record(t, cell{"stream on rsockets (siw)", roleName(goServes), "lo", what(volume) + ", " + o.String()})
				goEnd, _ := volume.between(t, g, g.volumePair(t, goServes), o)
				total += bytesMoved(t, goEnd.Stdout())
			})
		}
	}
	require.False(t, t.Failed())
	require.GreaterOrEqual(t, total, 10_000_000_000)
	section("Volume", fmt.Sprintf("%d bytes between a Conn of ours and rsockets on siw, as client and as server, with CRC and without, as many each way at once: "+
		"each byte was compared by who received it, and none was wrong.", total))
}

// Why no end on rsockets uses a connection with two threads here: two C ends that do come to a standstill.
func TestThreadsControl(t *testing.T) {
	if !*fullFlag {
		t.Skip("takes some time: run with -full")
	}
	g := theGuest(t)
	p := g.volumePair(t, false)
	program := func(server bool) []string {
		return slices.Concat([]string{"timeout", "20", "c-stream", "-j"}, volume.args(p, server, server))
	}
	why := g.swap(t, p, program(true), program(false))
	outcomeOf(t, cell{"stream on rsockets (siw)", "control", "lo", "one thread sends while another receives"}, "threads", why)
}

var moved = regexp.MustCompile(`^1 connections, (\d+) bytes sent, (\d+) received on each, (\d+) us`)

// bytesMoved is what our end says of its one connection.
func bytesMoved(t *testing.T, said string) int {
	t.Helper()
	t.Log(said)
	m := moved.FindStringSubmatch(said)
	require.NotNil(t, m, said)
	sent, err := strconv.Atoi(m[1])
	require.NoError(t, err)
	got, err := strconv.Atoi(m[2])
	require.NoError(t, err)
	return sent + got
}

// Connections without end to one rsocket listener: it lives, and the kernel has afterwards what it had before.
func TestConnects(t *testing.T) {
	g := theGuest(t)
	n := 500
	if *fullFlag {
		n = 10_000
	}
	record(t, cell{"stream on rsockets (siw)", "client", "eth0", fmt.Sprintf("%d connections to one listener", n)})
	g.captured(t, "lo", func(t *testing.T, want expected) {
		p := g.inGuest(t, false)
		want.add(t, p, session{crc: true, stream: true})
		const limit = 15 * time.Minute
		f := flow{theirs: 10, ours: 10, chunk: 10, theirEnd: "half", mine: "last", connections: n + 1}
		s := g.startFor(t, limit, append([]string{"c-stream"}, f.args(p, true, true)...)...)
		g.awaitListener(t, s, p)
		before := g.rdmaResources(t)
		f.connections = n
		t.Log(succeeds(t, g.startFor(t, limit, append([]string{"go-stream", "-d", limit.String()}, f.args(p, false, false)...)...)))
		eventually(t, s, func() bool { return g.rdmaResources(t) == before })
		// One more ends the server, which counts them.
		f.connections = 1
		g.run(t, append([]string{"go-stream"}, f.args(p, false, false)...)...)
		require.Contains(t, succeeds(t, s), fmt.Sprintf("%d connections, ", n+1))
		g.noTerminate(t)
	})
	awaitDecodings(t)
}

// rdmaResources is what the kernel holds for programs on siw.
func (g *guest) rdmaResources(t *testing.T) string {
	t.Helper()
	return g.run(t, "rdma", "resource", "show")
}
