//go:build linux

package kernel

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A way is how two ends of the same kind, or of two kinds, are connected in the comparison of speeds.
type way struct {
	name           string
	server, client []string
}

var ways = []way{
	{"plain TCP, both C", []string{"c-stream", "-t"}, []string{"c-stream", "-t"}},
	{"plain TCP, both C, again", []string{"c-stream", "-t"}, []string{"c-stream", "-t"}},
	{"plain TCP, both Go", []string{"go-stream", "-t"}, []string{"go-stream", "-t"}},
	{"rsockets (siw), both C", []string{"c-stream"}, []string{"c-stream"}},
	{"rsockets (siw) to Go (soft)", []string{"c-stream"}, []string{"go-stream", "-crc=false"}},
	{"Go (soft) to rsockets (siw)", []string{"go-stream", "-crc=false"}, []string{"c-stream"}},
	{"Go (soft), both", []string{"go-stream", "-crc=false"}, []string{"go-stream", "-crc=false"}},
}

var (
	p50     = regexp.MustCompile(`p50 ([0-9.]+) us`)
	elapsed = regexp.MustCompile(`, ([0-9]+) us`)
)

// The time of round trips and the throughput of each way as a ratio to plain TCP, taken in turns.
func TestRatio(t *testing.T) {
	if !*fullFlag {
		t.Skip("takes some minutes: run with -full")
	}
	g := theGuest(t)
	const rounds = 5
	type measure struct {
		name string
		args []string
		send bool
		unit *regexp.Regexp
	}
	measures := []measure{
		{"p50, 64 B", []string{"-q", "300", "-w", "64"}, false, p50},
		{"p50, 4 KiB", []string{"-q", "300", "-w", "4096"}, false, p50},
		{"p50, 64 KiB", []string{"-q", "100", "-w", "65536"}, false, p50},
		{"time for 40 MB in 64 KiB", []string{"-w", "65536"}, true, elapsed},
	}
	sums := make(map[string]map[string][]float64)
	for range rounds {
		for _, w := range ways {
			for _, m := range measures {
				took := g.measure(t, w, m.args, m.send, m.unit)
				if sums[w.name] == nil {
					sums[w.name] = make(map[string][]float64)
				}
				sums[w.name][m.name] = append(sums[w.name][m.name], took)
			}
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "The median of %d rounds as a ratio to plain TCP between two C programs, which is measured twice in each round; less is faster. Both ends are in the guest, "+
		"on 10.0.2.15, without CRC, with congestion control %s. The guest is emulated, so only the ratios say something.\n", rounds, strings.TrimSpace(g.run(t, "cat", "/proc/sys/net/ipv4/tcp_congestion_control")))
	table := func(of []way, to way) {
		b.WriteString("\n| |")
		for _, m := range measures {
			fmt.Fprintf(&b, " %s |", m.name)
		}
		b.WriteString("\n|---|" + strings.Repeat("---|", len(measures)) + "\n")
		for _, w := range of {
			fmt.Fprintf(&b, "| %s |", w.name)
			for _, m := range measures {
				fmt.Fprintf(&b, " %.2f |", median(sums[w.name][m.name])/median(sums[to.name][m.name]))
			}
			b.WriteString("\n")
		}
	}
	table(ways, ways[0])
	b.WriteString("\nThe same as a ratio to rsockets between two C programs:\n")
	table(ways[4:6], ways[3])
	t.Log("\n" + b.String())
	section("Speed", b.String())
}

// measure runs one connection and returns what the client prints, in microseconds.
func (g *guest) measure(t *testing.T, w way, args []string, send bool, unit *regexp.Regexp) float64 {
	t.Helper()
	p := g.inGuest(t, false)
	server := append(append(append([]string{}, w.server...), args...), "-l", p.listen, "-p", p.port)
	client := append(append(append([]string{}, w.client...), args...), "-c", p.dial, "-p", p.dialPort)
	if send {
		server, client = append(server, "-r", "40000000", "-e", "last"), append(client, "-s", "40000000")
	}
	s := g.startFor(t, 2*time.Minute, server...)
	if w.server[0] == "go-stream" {
		require.NoError(t, s.WaitOutput("listening on"))
	} else {
		g.awaitListener(t, s, p)
	}
	out := succeeds(t, g.startFor(t, 2*time.Minute, client...))
	succeeds(t, s)
	m := unit.FindStringSubmatch(out)
	require.NotNil(t, m, "%s", out)
	us, err := strconv.ParseFloat(m[1], 64)
	require.NoError(t, err)
	require.Positive(t, us)
	return us
}

func median(v []float64) float64 {
	v = slices.Clone(v)
	slices.Sort(v)
	return v[len(v)/2]
}
