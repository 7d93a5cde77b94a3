//go:build linux

package kernel

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const pings = 5

// The kernel's siw with librdmacm's rping on it, and examples/rping: RDMA Read, RDMA Write and
// Send, checked byte by byte at the end that pings.
func TestRping(t *testing.T) {
	pairs(t, everyRoute, everyMPA, meeting.covered, func(t *testing.T, g *guest, m meeting) {
		sizes := []int{26, 64, 1000, 65535}
		if m.route.name != "veth" || m.nth > 1 {
			sizes = sizes[3:]
		}
		for _, size := range sizes {
			t.Run(strconv.Itoa(size), func(t *testing.T) {
				p := g.newPair(m.goServes, m.route)
				m.want.add(t, p, m.o.session(m.goServes))
				c := m.cell("rping (siw)", "")
				if m.o.rev == 1 && !m.goServes {
					rpingWithoutReads(t, g, p, size, m.o)
					fault(t, c, readsNeedMPA2)
					return
				}
				record(t, c)
				rping(t, g, p, size, m.o)
			})
		}
	})
}

func rping(t *testing.T, g *guest, p pair, size int, o mpaOptions) {
	goEnd, cEnd := g.roles(t, p,
		func(server bool) []string {
			return slices.Concat([]string{"go-rping", "-v"}, o.flags(), rpingArgs(p, server, size))
		},
		func(server bool) []string { return append([]string{"rping", "-v"}, rpingArgs(p, server, size)...) })
	cOut, goOut := succeeds(t, cEnd), succeeds(t, goEnd)
	require.Contains(t, goEnd.Stderr(), fmt.Sprintf("crc=%t", o.crc(p.goServes)))
	for who, out := range map[string]string{"C": cOut, "Go": goOut} {
		require.Equal(t, pings, strings.Count(out, "ping data: rdma-ping-"), "%s end: %s", who, out)
	}
	last := lastLine(cOut)
	require.Len(t, last[strings.Index(last, "rdma-ping-"):], size-1)
	require.Equal(t, strings.TrimPrefix(last, "server "), strings.TrimPrefix(lastLine(goOut), "server "))
}

// rpingWithoutReads checks that the C server fails as it does towards a C client, and that our
// client finds the connection at its end.
func rpingWithoutReads(t *testing.T, g *guest, p pair, size int, o mpaOptions) {
	goEnd, cEnd := g.roles(t, p,
		func(server bool) []string {
			return slices.Concat([]string{"go-rping"}, o.flags(), rpingArgs(p, server, size))
		},
		func(server bool) []string { return append([]string{"rping"}, rpingArgs(p, server, size)...) })
	exit, err := cEnd.Wait()
	require.NoError(t, err)
	require.NotZero(t, exit, "it works now")
	require.Contains(t, cEnd.Stdout()+cEnd.Stderr(), "post send error")
	exit, err = goEnd.Wait()
	require.NoError(t, err)
	require.Equal(t, 1, exit)
	require.Regexp(t, "rping: ping 0: .*(EOF|reset)", goEnd.Stderr())
}

// rpingArgs are the arguments that both programs have.
func rpingArgs(p pair, server bool, size int) []string {
	if server {
		return []string{"-s", "-a", p.addr, "-p", p.port, "-S", strconv.Itoa(size)}
	}
	return []string{"-c", "-a", p.addr, "-p", p.port, "-S", strconv.Itoa(size), "-C", strconv.Itoa(pings), "-V"}
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return lines[len(lines)-1]
}

// A persistent server of ours serves several C clients on one port, one after the other.
func TestRpingPersistent(t *testing.T) {
	g := theGuest(t)
	p := g.inGuest(true)
	server := g.start(t, append([]string{"go-rping", "-P"}, rpingArgs(p, true, 64)...)...)
	require.NoError(t, server.WaitOutput("listening on"))
	for range 3 {
		g.run(t, again(append([]string{"rping"}, rpingArgs(p, false, 64)...))...)
	}
}
