//go:build linux

package kernel

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/test/kernel/internal/agent"
)

// A flow is what a connection of stream and cstream/stream.c carries: both directions at once,
// every byte compared.
type flow struct {
	name           string
	theirs, ours   int64  // bytes that each end sends
	chunk          int    // of a send or Write
	theirEnd, mine string // how each end finishes
	connections    int
	theyIdle, idle int // milliseconds in which the end does nothing at first
}

// Not both finish at the same time: an rsocket that has finished writing takes the peer's end for
// that of the connection, and drops what it has not sent yet. And who receives from an rsocket that
// closes has nothing to say meanwhile: its kernel answers with a reset.
var flows = []flow{
	{name: "half-close", theirs: 200_000, ours: 200_000, chunk: 10_000, theirEnd: "half", mine: "last"},
	{name: "they finish first", theirs: 1, ours: 2_000_000, chunk: 65536, theirEnd: "half", mine: "last"},
	{name: "we finish first", theirs: 2_000_000, ours: 1, chunk: 65536, theirEnd: "last", mine: "half"},
	{name: "they close with data in flight", theirs: 1_000_000, chunk: 65536, theirEnd: "close", mine: "last"},
	{name: "we close with data in flight", ours: 1_000_000, chunk: 65536, theirEnd: "half", mine: "close"},
	{name: "one byte each", theirs: 2_000, ours: 2_000, chunk: 1, theirEnd: "half", mine: "last"},
	{name: "one byte from us", ours: 2_000, chunk: 1, theirEnd: "half", mine: "half"},
	{name: "one byte from them", theirs: 2_000, chunk: 1, theirEnd: "half", mine: "half"},
	{name: "one byte from us, they idle at first", ours: 2_000, chunk: 1, theirEnd: "half", mine: "half", theyIdle: 500},
	{name: "one byte from them, we idle at first", theirs: 2_000, chunk: 1, theirEnd: "half", mine: "half", idle: 500},
	{name: "2 bytes", theirs: 2_000, ours: 2_000, chunk: 2, theirEnd: "half", mine: "last"},
	{name: "65 bytes", theirs: 65_000, ours: 65_000, chunk: 65, theirEnd: "half", mine: "last"},
	{name: "1500 bytes", theirs: 300_000, ours: 300_000, chunk: 1500, theirEnd: "half", mine: "last"},
	{name: "256 KiB", theirs: 2 << 20, ours: 2 << 20, chunk: 256 << 10, theirEnd: "half", mine: "last"},
	{name: "4 MiB", theirs: 4 << 20, ours: 4 << 20, chunk: 4 << 20, theirEnd: "half", mine: "last"},
	{name: "nothing at all", chunk: 1, theirEnd: "half", mine: "half"},
	{name: "twenty connections", theirs: 1000, ours: 1000, chunk: 100, theirEnd: "half", mine: "last", connections: 20},
}

// args are those that one end takes, as both programs have the same.
func (f flow) args(p pair, server, their bool) []string {
	send, receive, end, idle := f.ours, f.theirs, f.mine, f.idle
	if their {
		send, receive, end, idle = receive, send, f.theirEnd, f.theyIdle
	}
	a := []string{"-s", fmt.Sprint(send), "-r", fmt.Sprint(receive), "-w", strconv.Itoa(f.chunk), "-e", end, "-n", strconv.Itoa(max(f.connections, 1)), "-z", strconv.Itoa(idle)}
	if server {
		return append(a, "-l", p.addr, "-p", p.port)
	}
	return append(a, "-c", p.addr, "-p", p.port)
}

// goStream and cStream are the command lines of our end and of the one on rsockets.
func (f flow) goStream(p pair, server bool, o mpaOptions) []string {
	return slices.Concat([]string{"go-stream"}, o.flags(), f.args(p, server, false))
}

func (f flow) cStream(p pair, server bool) []string {
	return append([]string{"c-stream"}, f.args(p, server, true)...)
}

// between runs the flow between an end of ours and one on rsockets.
func (f flow) between(t *testing.T, g *guest, p pair, o mpaOptions) (goEnd, cEnd *agent.Process) {
	t.Helper()
	goEnd, cEnd = g.roles(t, p,
		func(server bool) []string { return f.goStream(p, server, o) },
		func(server bool) []string { return f.cStream(p, server) })
	succeeds(t, goEnd)
	succeeds(t, cEnd)
	g.noTerminate(t)
	return goEnd, cEnd
}

// onRsockets makes the arguments of two ends on rsockets that run the flow.
func (f flow) onRsockets(p pair) func(server bool) []string {
	return func(server bool) []string { return append([]string{"c-stream"}, f.args(p, server, server)...) }
}

// streamMPA are the options of streams, of which the first takes all flows.
var streamMPA = []mpaOptions{{rev: 2, ourCRC: true}, {rev: 2}, {rev: 2, siwCRC: true}, {rev: 1}, {rev: 1, siwCRC: true, ourCRC: true}}

// librdmacm's rsockets on siw and a Conn of ours with both directions in use at once.
func TestStream(t *testing.T) {
	wanted := func(m meeting) bool { return m.nth == 0 || *fullFlag }
	pairs(t, everyRoute, streamMPA, wanted, func(t *testing.T, g *guest, m meeting) {
		some := flows[:1]
		switch {
		case m.nth == 0 && (m.route.name == "veth" || m.route.name == "host" && *fullFlag):
			some = flows
		case m.nth == 1 && m.route.name == "veth", m.nth == 0 && *fullFlag:
			some = flows[:6]
		}
		for _, f := range some {
			t.Run(f.name, func(t *testing.T) {
				g.play(t, m, m.cell("stream on rsockets (siw)", f.name+", "),
					func(p pair, server bool) []string { return f.goStream(p, server, m.o) }, f.cStream)
			})
		}
	})
}

// Two ends on rsockets do the same, as far as they can. Which flows of small writes end in the
// Terminate is a matter of time, and now and then siw refuses a connect with EINVAL.
func TestStreamControl(t *testing.T) {
	g := theGuest(t)
	for _, f := range flows {
		t.Run(f.name, func(t *testing.T) {
			c := cell{"stream on rsockets (siw)", "control", "eth0", f.name}
			var why, log string
			for range 3 {
				g.healthy(t)
				p := g.inGuest(false)
				p.limit = cellLimit / 2
				args := f.onRsockets(p)
				if why = g.swap(t, p, args(true), args(false)); why == "" {
					record(t, c)
					return
				}
				if log = g.healthy(t); strings.Contains(log, noReceiveLogged) {
					fault(t, c, noReceive)
					return
				}
			}
			require.Contains(t, log, noReceiveLogged, why)
		})
	}
}

// noReceive is why two rsockets fail at small writes.
const noReceive = "an rsocket has as many receives as the peer has credits, and words of space need none: one Send too many ends the connection"

// noReceiveLogged is what siw says of the Terminate for that.
const noReceiveLogged = "got TERMINATE. layer 1, type 2, code 2"
