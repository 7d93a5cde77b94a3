//go:build linux

package kernel

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/test/kernel/internal/agent"
)

// gateway has iwarp-gateway carry iWARP to a server of plain TCP, which it returns the address for.
func (g *guest) gateway(t *testing.T, server pair) (p pair, log *agent.Process) {
	t.Helper()
	p = g.inGuest(true)
	log = g.startFor(t, groupLimit, "iwarp-gateway", fmt.Sprintf("iwarp://%s:%s=tcp://%s:%s", p.addr, p.port, server.addr, server.port))
	require.NoError(t, log.WaitOutput("msg=listening"))
	return p, log
}

// carried waits until the gateway has carried n connections of iWARP to plain TCP, and no other.
func carried(t *testing.T, log *agent.Process, n int) {
	t.Helper()
	eventually(t, log, func() bool { return strings.Count(log.Stderr(), "msg=carried") == n })
	require.Equal(t, n, strings.Count(log.Stderr(), "client_path=soft target_path=tcp"), log.Stderr())
}

// preloaded is a program that knows nothing of RDMA, with sockets of rsockets and the file of
// bytes as its input.
func preloaded(args ...string) []string {
	return again(slices.Concat([]string{"sh", "-c", `exec "$@" <` + file, "sh"}, preload, args))
}

// Unmodified programs of C, on rsockets over siw, reach servers of plain TCP through iwarp-gateway.
func TestPreloadGateway(t *testing.T) {
	g := theGuest(t)
	g.streamFile(t)
	sum := strings.Fields(g.run(t, "sha256sum", file))[0]

	t.Run("redis-cli", func(t *testing.T) {
		tcp := g.inGuest(true)
		s := g.startFor(t, groupLimit, "redis-server", "--bind", tcp.addr, "--port", tcp.port, "--save", "", "--protected-mode", "no")
		g.awaitListener(t, s, tcp)
		p, log := g.gateway(t, tcp)
		for _, c := range []struct{ args, want string }{
			{"ping", "PONG\n"},
			{"-x set stream", "OK\n"},
			{"strlen stream", fmt.Sprintln(streamBytes)},
			{"-r 20 incr n", "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12\n13\n14\n15\n16\n17\n18\n19\n20\n"},
		} {
			t.Run(c.args, func(t *testing.T) {
				record(t, cell{"redis-cli (rsockets)", "server", "eth0", "iwarp-gateway: " + c.args})
				got := g.run(t, preloaded(words("redis-cli -h %s -p %s %s", p.addr, p.port, c.args)...)...)
				require.True(t, c.want == got, "%d bytes: %.100q", len(got), got)
			})
		}
		t.Run("get", func(t *testing.T) {
			record(t, cell{"redis-cli (rsockets)", "server", "eth0", "iwarp-gateway: get of what was set"})
			get := preloaded(words("redis-cli -h %s -p %s --raw get stream", p.addr, p.port)...)
			g.run(t, append([]string{"sh", "-ec", `"$@" >/tmp/got; (cat ` + file + "; echo) | cmp - /tmp/got", "sh"}, get...)...)
		})
		carried(t, log, 5)
	})
	t.Run("curl", func(t *testing.T) {
		tcp := g.inGuest(true)
		s := g.startFor(t, groupLimit, "env", "IWARP_OFFLOAD=never", "go-httpd", "-l", tcp.addr+":"+tcp.port)
		require.NoError(t, s.WaitOutput("listening on"))
		p, log := g.gateway(t, tcp)
		url := "http://" + p.addr + ":" + p.port
		for _, c := range []struct{ name, args, want string }{
			{"get 1 MB", url + "/1000000", httpBody(1_000_000)},
			{"post a file", "--data-binary @" + file + " -H Expect: " + url + "/", fmt.Sprintf("%d %s\n", streamBytes, sum)},
		} {
			t.Run(c.name, func(t *testing.T) {
				record(t, cell{"curl (rsockets)", "server", "eth0", "iwarp-gateway: " + c.name})
				got := g.run(t, preloaded(words("curl -sS %s", c.args)...)...)
				require.True(t, c.want == got, "%d bytes: %.100q", len(got), got)
			})
		}
		carried(t, log, 2)
	})
}
