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

	"github.com/rdmanet/iwarp/test/kernel/internal/agent"
)

// volumePair is a pair on lo, whose segments are large, with time for that.
func (g *guest) volumePair(goServes bool) pair {
	p := g.newPair(goServes, g.route("lo"))
	p.limit = 5 * time.Minute
	return p
}

// volume is a flow in which every byte is compared, as many each way at once.
func volume(bytes int64) flow {
	return flow{theirs: bytes, ours: bytes, chunk: 1 << 20, theirEnd: "half", mine: "last"}
}

// Ten gigabytes between a Conn of ours and rsockets, every byte compared: as many each way at once,
// in both roles, with CRC and the buffers that rsockets have anyway, and without CRC and with large
// ones, which is faster.
func TestVolume(t *testing.T) {
	if !*fullFlag {
		t.Skip("10 GB: run with -full")
	}
	g := theGuest(t)
	type kind struct {
		o       mpaOptions
		bytes   int64
		buffers string // what librdmacm's files say of them
	}
	what := func(bytes int64) string { return fmt.Sprintf("%.2f GB each way", float64(bytes)/1e9) }
	t.Run("control", func(t *testing.T) {
		const bytes = 130_000_000
		record(t, cell{"stream on rsockets (siw)", "control", "lo", what(bytes)})
		p := g.volumePair(false)
		g.control(t, p, volume(bytes).onRsockets(p))
	})
	total := 0
	for _, k := range []kind{{mpaOptions{rev: 2, ourCRC: true}, 150_000_000, ""}, {mpaOptions{rev: 2}, 2_360_000_000, "4194304"}} {
		for _, goServes := range []bool{false, true} {
			t.Run("go="+roleName(goServes)+"/"+k.o.name(), func(t *testing.T) {
				name := what(k.bytes) + ", " + k.o.String()
				if k.buffers != "" {
					name += ", buffers of " + k.buffers + " bytes"
					g.run(t, "sh", "-ec", "mkdir -p /etc/rdma/rsocket; cd /etc/rdma/rsocket; echo "+k.buffers+" | tee mem_default >wmem_default")
					t.Cleanup(func() { g.run(t, "rm", "-r", "/etc/rdma/rsocket") })
				}
				record(t, cell{"stream on rsockets (siw)", roleName(goServes), "lo", name})
				goEnd, _ := volume(k.bytes).between(t, g, g.volumePair(goServes), k.o)
				total += bytesMoved(t, goEnd.Stdout())
			})
		}
	}
	require.False(t, t.Failed())
	require.GreaterOrEqual(t, total, 10_000_000_000)
	section("Volume", fmt.Sprintf("%d bytes between a Conn of ours and rsockets on siw, as client and as server, with CRC and without, as many each way at once: "+
		"each byte was compared by who received it, and none was wrong.", total))
}

// Why no end on rsockets uses a connection with two threads here: two C ends that do come to a
// standstill.
func TestThreadsControl(t *testing.T) {
	if !*fullFlag {
		t.Skip("takes some time: run with -full")
	}
	g := theGuest(t)
	p := g.volumePair(false)
	program := func(server bool) []string {
		return slices.Concat([]string{"timeout", "20", "c-stream", "-j"}, volume(1<<40).args(p, server, server))
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

// Connections without end to one rsocket listener: it lives, and the kernel has afterwards what it
// had before.
func TestConnects(t *testing.T) {
	g := theGuest(t)
	n, r := 500, g.route("host") // which is no emulation
	if r.ours == nil {
		r = g.route("eth0")
	}
	if *fullFlag {
		n = 10_000
	}
	record(t, cell{"stream on rsockets (siw)", "client", r.name, fmt.Sprintf("%d connections to one listener", n)})
	g.captured(t, r.dev, func(t *testing.T, want expected) {
		p := g.newPair(false, r)
		want.add(t, p, session{crc: true, stream: true})
		const limit, clients = 15 * time.Minute, 2
		f := flow{theirs: 10, ours: 10, chunk: 10, theirEnd: "half", mine: "last", connections: n + 1}
		s := g.startFor(t, limit, append([]string{"c-stream"}, f.args(p, true, true)...)...)
		g.awaitListener(t, s, p)
		before := g.rdmaResources(t)
		f.connections = n / clients
		var running []*agent.Process
		for range clients {
			running = append(running, r.ours.startFor(t, limit, append([]string{"go-stream", "-d", limit.String()}, f.args(p, false, false)...)...))
		}
		for _, c := range running {
			t.Log(succeeds(t, c))
		}
		eventually(t, s, func() bool { return g.rdmaResources(t) == before })
		// One more ends the server, which counts them.
		f.connections = 1
		r.ours.run(t, append([]string{"go-stream"}, f.args(p, false, false)...)...)
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
