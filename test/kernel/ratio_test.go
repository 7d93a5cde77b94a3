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

// A way is how two ends of the same kind, or of two kinds, are connected in the comparison of
// speeds.
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

// A quantity is something that one connection shows.
type quantity struct {
	name string
	args []string
	send int // bytes to the server, or 0 for round trips
}

func roundTrips(n, size int) quantity {
	return quantity{"p50, " + sizeName(size), words("-q %d -w %d", n, size), 0}
}

func throughput(bytes, size int) quantity {
	return quantity{fmt.Sprintf("time for %g MB in %s", float64(bytes)/1e6, sizeName(size)), words("-w %d", size), bytes}
}

func sizeName(n int) string {
	switch {
	case n >= 1<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 1<<10:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d B", n)
}

// A comparison holds what each way took for each measure, by their names.
type comparison map[string]map[string][]float64

// compare takes all measures of all ways in turns.
func (g *guest) compare(t *testing.T, rounds int, ways []way, measures []quantity) comparison {
	c := make(comparison)
	for range rounds {
		for _, w := range ways {
			if c[w.name] == nil {
				c[w.name] = make(map[string][]float64)
			}
			for _, m := range measures {
				c[w.name][m.name] = append(c[w.name][m.name], g.measure(t, w, m))
			}
		}
	}
	return c
}

// ratio is the median of what the way took to that of the other.
func (c comparison) ratio(of, to way, m quantity) float64 {
	return median(c[of.name][m.name]) / median(c[to.name][m.name])
}

// table has a row for each way, as a ratio to one of them.
func (c comparison) table(ways []way, to way, measures []quantity) string {
	var b strings.Builder
	b.WriteString("\n| |")
	for _, m := range measures {
		fmt.Fprintf(&b, " %s |", m.name)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(measures)) + "\n")
	for _, w := range ways {
		fmt.Fprintf(&b, "| %s |", w.name)
		for _, m := range measures {
			fmt.Fprintf(&b, " %.2f |", c.ratio(w, to, m))
		}
		b.WriteString("\n")
	}
	return b.String()
}

// The time of round trips and the throughput of each way as a ratio to plain TCP, taken in turns.
func TestRatio(t *testing.T) {
	if !*fullFlag {
		t.Skip("takes some minutes: run with -full")
	}
	g := theGuest(t)
	const rounds = 3
	measures := []quantity{roundTrips(300, 64), roundTrips(100, 64<<10), throughput(20e6, 64<<10)}
	c := g.compare(t, rounds, ways, measures)
	text := fmt.Sprintf("The median of %d rounds as a ratio to plain TCP between two C programs, which is measured twice in each round; less is faster. Both ends are in the guest, "+
		"on 10.0.2.15, without CRC, with congestion control %s. The guest is emulated, so only the ratios say something.\n", rounds, g.congestionControl(t))
	text += c.table(ways, ways[0], measures)
	text += "\nThe same as a ratio to rsockets between two C programs:\n" + c.table(ways[4:6], ways[3], measures)
	t.Log("\n" + text)
	section("Speed", text)
}

func (g *guest) congestionControl(t *testing.T) string {
	return strings.TrimSpace(g.run(t, "cat", "/proc/sys/net/ipv4/tcp_congestion_control"))
}

// deviceWays are those between two ends on siw, and plain TCP.
var deviceWays = []way{
	{"rsockets (siw), both C", words("c-stream"), words("c-stream")},
	{"rsockets (siw), both C, again", words("c-stream"), words("c-stream")},
	{"Go (siw, transport/rnic), both", words("go-stream -rnic"), words("go-stream -rnic")},
	{"Go (siw, transport/rnic) to rsockets (siw)", words("c-stream"), words("go-stream -rnic")},
	{"plain TCP, both C", words("c-stream -t"), words("c-stream -t")},
	{"plain TCP, both Go", words("go-stream -t"), words("go-stream -t")},
}

// The same for ends on the same device, as a ratio to rsockets.
func TestDeviceRatio(t *testing.T) {
	if !*fullFlag {
		t.Skip("takes some minutes: run with -full")
	}
	g := theGuest(t)
	const rounds = 3
	measures := []quantity{
		roundTrips(200, 64), roundTrips(50, 64<<10),
		throughput(200e3, 64), throughput(10e6, 4<<10), throughput(20e6, 64<<10),
	}
	c := g.compare(t, rounds, deviceWays, measures)
	text := fmt.Sprintf("The median of %d rounds as a ratio to rsockets between two C programs, which is measured twice in each round; less is faster. Both ends are in the guest, "+
		"on 10.0.2.15, with congestion control %s. The guest is emulated, so only the ratios say something.\n", rounds, g.congestionControl(t))
	text += c.table(deviceWays, deviceWays[0], measures)
	t.Log("\n" + text)
	section("Speed through a device", text)
}

// measure runs one connection and returns what the client prints, in microseconds.
func (g *guest) measure(t *testing.T, w way, m quantity) float64 {
	t.Helper()
	p := g.inGuest(false)
	server := slices.Concat(w.server, m.args, words("-l %s -p %s", p.addr, p.port))
	client := slices.Concat(w.client, m.args, words("-c %s -p %s", p.addr, p.port))
	unit := p50
	if m.send > 0 {
		server, client = append(server, words("-r %d -e last", m.send)...), append(client, words("-s %d", m.send)...)
		unit = elapsed
	}
	s := g.startFor(t, 2*time.Minute, server...)
	if w.server[0] == "go-stream" {
		require.NoError(t, s.WaitOutput("listening on"))
	} else {
		g.awaitListener(t, s, p)
	}
	out := succeeds(t, g.startFor(t, 2*time.Minute, again(client)...))
	succeeds(t, s)
	found := unit.FindStringSubmatch(out)
	require.NotNil(t, found, "%s", out)
	us, err := strconv.ParseFloat(found[1], 64)
	require.NoError(t, err)
	require.Positive(t, us)
	return us
}

func median(v []float64) float64 {
	v = slices.Clone(v)
	slices.Sort(v)
	return v[len(v)/2]
}
