//go:build linux

package kernel

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/test/kernel/internal/agent"
)

// A holder is a process of its own that listens on a port, in one world or in both.
type holder struct {
	name  string
	args  func(p pair) []string
	tells bool // when it has the port in every world where it wants it
}

var (
	byUs   = holder{"package iwarp", func(p pair) []string { return words("go-stream -front -l %s -p %s", p.addr, p.port) }, true}
	byTCP  = holder{"a TCP socket", func(p pair) []string { return words("go-stream -t -l %s -p %s", p.addr, p.port) }, true}
	byRDMA = holder{"rdma_cm", func(p pair) []string { return words("rping -s -P -a %s -p %s", p.addr, p.port) }, false}
)

// holds starts the process and waits until it has the port.
func (o holder) holds(t *testing.T, g *guest, h hca, p pair) *agent.Process {
	t.Helper()
	s := g.startFor(t, groupLimit, o.args(p)...)
	if o.tells { // to be seen among the kernel's sockets comes before devices listen
		require.NoError(t, s.WaitOutput("listening on"))
	} else {
		h.await(t, g, s, p)
	}
	return s
}

// refused starts the process, which is to find that the port is taken.
func (o holder) refused(t *testing.T, g *guest, p pair) {
	t.Helper()
	s := g.start(t, append([]string{"timeout", "5"}, o.args(p)...)...)
	exit, err := s.Wait()
	require.NoError(t, err)
	require.NotZero(t, exit)
	require.NotEqual(t, 124, exit, "it listens: %s%s", s.Stdout(), s.Stderr())
	require.Regexp(t, "(?i)address already in use", s.Stdout()+s.Stderr())
}

// A port that is taken in one world is taken in the other where this package has it, whoever comes
// first, and also where others have it. That this is worth having is seen where it has not: on a
// device with a port space of its own both get it.
func TestDevicePorts(t *testing.T) {
	g := theGuest(t)
	for _, h := range hcas(t, g) {
		for _, order := range []struct{ first, second holder }{
			{byUs, byTCP}, {byUs, byRDMA}, {byTCP, byUs}, {byRDMA, byUs}, {byUs, byUs}, {byTCP, byRDMA}, {byRDMA, byTCP},
		} {
			t.Run(fmt.Sprintf("%s/%s then %s", h.name, order.first.name, order.second.name), func(t *testing.T) {
				record(t, cell{"ports", "", h.name, order.first.name + " first, then " + order.second.name})
				p := h.pair(g)
				order.first.holds(t, g, h, p)
				ours := order.first.name == byUs.name || order.second.name == byUs.name
				if h.name == "rxe" && !ours {
					order.second.holds(t, g, h, p)
					return
				}
				order.second.refused(t, g, p)
			})
		}
		t.Run(h.name+"/connection", func(t *testing.T) {
			record(t, cell{"ports", "client", h.name, "the local port of a connection"})
			p := h.pair(g)
			s := g.start(t, append(byUs.args(p), "-q", "100000", "-w", "64")...)
			require.NoError(t, s.WaitOutput("listening on"))
			c := g.start(t, words("env IWARP_OFFLOAD=require go-stream -front -q 100000 -w 64 -c %s -p %s", p.addr, p.port)...)
			require.NoError(t, c.WaitOutput("Transport:rnic"))
			local := regexp.MustCompile(regexp.QuoteMeta(p.addr) + `:(\d+) `).FindStringSubmatch(c.Stderr())
			require.NotNil(t, local, c.Stderr())
			taken := pair{addr: p.addr, port: local[1]}
			byTCP.refused(t, g, taken)
			byUs.refused(t, g, taken)
		})
	}
}

// Connections over siw succeed although most of the ports that there are to choose from are taken
// by sockets, and those that are left by what remains of the connections before. rdma_cm, which
// does not look at sockets, fails with most.
func TestDevicePortsNarrow(t *testing.T) {
	g := theGuest(t)
	h := hcas(t, g)[0]
	const tries, first, ports, held = 12, 20000, 8, 6 // below those that the system chooses of itself
	control := h.pair(g)
	byRDMA.holds(t, g, h, control)
	var servers []pair
	for range tries {
		p := h.pair(g)
		s := g.startFor(t, groupLimit, append(byUs.args(p), "-q", "2", "-w", "64")...)
		require.NoError(t, s.WaitOutput("listening on"))
		servers = append(servers, p)
	}
	for i := range held {
		p := pair{addr: h.addr, port: strconv.Itoa(first + i)}
		byTCP.holds(t, g, h, p)
	}
	const sysctl = "/proc/sys/net/ipv4/ip_local_port_range"
	was := strings.TrimSpace(g.run(t, "cat", sysctl))
	g.run(t, "sh", "-ec", fmt.Sprintf("echo %d %d >%s", first, first+ports-1, sysctl))
	t.Cleanup(func() {
		g.run(t, "sh", "-ec", fmt.Sprintf("echo %s >%s", was, sysctl))
		require.Equal(t, strings.Fields(was), strings.Fields(g.run(t, "cat", sysctl)))
	})

	for _, p := range servers {
		c := g.start(t, words("env IWARP_OFFLOAD=require go-stream -front -q 2 -w 64 -c %s -p %s", p.addr, p.port)...)
		succeeds(t, c)
		require.Contains(t, c.Stderr(), "Transport:rnic")
	}
	plain := 0
	for range tries {
		s := g.start(t, words("timeout 2 rping -c -C 1 -a %s -p %s", control.addr, control.port)...)
		if exit, err := s.Wait(); err == nil && exit == 0 {
			plain++
		}
	}
	t.Logf("of %d connects with %d of %d ports held: %d by rdma_cm's choice, %d by this package's", tries, held, ports, plain, tries)
	require.Less(t, plain, tries, "rdma_cm looks at sockets now")
	section("Ports that are left to choose from", fmt.Sprintf(
		"With %d of %d local ports held by TCP sockets, %d of %d connects over siw succeeded with the port left to rdma_cm (rping), and all %d with package iwarp.",
		held, ports, plain, tries, len(servers)))
}
