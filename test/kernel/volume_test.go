//go:build linux

package kernel

import (
	"fmt"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Ten gigabytes between a Conn of ours and rsockets, every byte compared: half of them each way at once, in both roles.
func TestVolume(t *testing.T) {
	if !*fullFlag {
		t.Skip("10 GB: run with -full")
	}
	g := theGuest(t)
	// With it, and without CRC, wrong data was seen; see the document of results.
	g.parameter(t, "zcopy_tx", "N")
	const bytes, limit = 2_600_000_000, 9 * time.Minute
	total := 0
	for _, goServes := range []bool{false, true} {
		t.Run("go="+roleName(goServes), func(t *testing.T) {
			record(t, cell{"stream on rsockets (siw)", roleName(goServes), "lo", fmt.Sprintf("%.1f GB each way", bytes/1e9)})
			f := flow{theirs: bytes, ours: bytes, chunk: 1 << 20, theirEnd: "half", mine: "last"}
			p := g.newPair(t, goServes, route{ours: &g.place, addr: loAddr, own: loAddr})
			goArgs := append([]string{"go-stream", "-crc=false", "-d", limit.String()}, f.args(p, goServes, false)...)
			cArgs := append([]string{"c-stream"}, f.args(p, !goServes, true)...)
			if goServes {
				s := g.startFor(t, limit, goArgs...)
				require.NoError(t, s.WaitOutput("listening on"))
				succeeds(t, g.startFor(t, limit, cArgs...))
				total += bytesMoved(t, succeeds(t, s))
				return
			}
			s := g.startFor(t, limit, cArgs...)
			g.awaitListener(t, s, p)
			total += bytesMoved(t, succeeds(t, g.startFor(t, limit, goArgs...)))
			succeeds(t, s)
		})
	}
	section("Volume", fmt.Sprintf("%d bytes between a Conn of ours and rsockets on siw, as client and as server, as many each way at once: each byte was compared by who received it, and none was wrong.", total))
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
	p := g.inGuest(t, false)
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
}

// rdmaResources is what the kernel holds for programs on siw.
func (g *guest) rdmaResources(t *testing.T) string {
	t.Helper()
	return g.run(t, "rdma", "resource", "show")
}
