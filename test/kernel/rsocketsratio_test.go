//go:build linux

package kernel

import (
	"flag"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var roundsFlag = flag.Int("rounds", 7, "rounds of TestRsocketsRatio")

// A rival is what both ends of a connection are, in the comparison with rsockets in C over siw.
type rival struct {
	name            string
	stream, rstream []string // the programs for round trips, and for throughput
}

var rsocketsInC = rival{"rsockets (siw), C", words("c-stream"), words("rstream -T b")}

var rivals = []rival{
	{rsocketsInC.name + ", again", rsocketsInC.stream, rsocketsInC.rstream},
	{"ours over siw (transport/rnic)", words("go-stream -rnic"), words("go-rstream -rnic")},
	{"ours over siw, polling for 50 µs", words("go-stream -rnic -poll 50us"), words("go-rstream -rnic -poll 50us")},
	{"ours in software (transport/soft), CRC", words("go-stream"), words("go-rstream")},
	{"ours in software, no CRC", words("go-stream -crc=false"), words("go-rstream -crc=false")},
	{"plain TCP, C", words("c-stream -t"), words("rstream -T s -T b")},
	{"plain TCP, Go", words("go-stream -t"), words("go-rstream -tcp")},
}

// A contest is what the rivals do. It is done for c iterations of n transfers, as in rstream.
type contest struct {
	name       string
	size, n, c int
}

var contests = []contest{
	{"p50 of a round trip, 64 B", 64, 1, 400},
	{"time for 64 KiB, without a wait", 64 << 10, 160, 1},
	{"time for 1 MiB, without a wait", 1 << 20, 10, 1},
}

// Ours over siw, and in software, against rsockets in C over siw. Each slice of a rival is divided
// by the mean of the slices of rsockets before and after it, so that a load which comes and goes
// hits both.
func TestRsocketsRatio(t *testing.T) {
	if !*fullFlag {
		t.Skip("takes some minutes: run with -full")
	}
	g := theGuest(t)
	ratios := make(map[string]map[string][]float64)
	control := make(map[string][]float64) // of rsockets, in microseconds
	var held []contest
	for _, c := range contests {
		passed := t.Run(c.name, func(t *testing.T) {
			before := g.contest(t, c, rsocketsInC)
			for range *roundsFlag {
				for _, r := range rivals {
					us := g.contest(t, c, r)
					after := g.contest(t, c, rsocketsInC)
					if ratios[r.name] == nil {
						ratios[r.name] = make(map[string][]float64)
					}
					ratios[r.name][c.name] = append(ratios[r.name][c.name], us/((before+after)/2))
					control[c.name] = append(control[c.name], before)
					before = after
				}
			}
		})
		if passed && control[c.name] != nil {
			held = append(held, c)
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Medians of %d interleaved rounds, with the interval that has the median with 95 %%, as a ratio to rsockets in C over siw; less is faster. Both ends are in the guest, on %s, "+
		"with congestion control %s. The guest is emulated, so only the ratios say something.\n\n| |", *roundsFlag, guestAddr, g.congestionControl(t))
	for _, c := range held {
		fmt.Fprintf(&b, " %s |", c.name)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(held)) + "\n| " + rsocketsInC.name + " |")
	for _, c := range held {
		fmt.Fprintf(&b, " %.0f µs |", median(control[c.name]))
	}
	b.WriteString("\n")
	for _, r := range rivals {
		fmt.Fprintf(&b, "| %s |", r.name)
		for _, c := range held {
			low, high := interval(ratios[r.name][c.name])
			fmt.Fprintf(&b, " %.2f (%.2f–%.2f) |", median(ratios[r.name][c.name]), low, high)
		}
		b.WriteString("\n")
	}
	t.Log("\n" + b.String())
	section("Speed beside rsockets over siw", b.String())
}

// contest has the rival do it, and returns the microseconds: of a round trip, or of a transfer.
func (g *guest) contest(t *testing.T, c contest, r rival) float64 {
	t.Helper()
	if c.n == 1 {
		return g.measure(t, way{r.name, r.stream, r.stream}, roundTrips(c.c, c.size))
	}
	said := g.rstreams(t, c, r)
	for tries := 1; said == ""; tries++ {
		require.Less(t, tries, 3, r.name)
		said = g.rstreams(t, c, r)
	}
	if r.rstream[0] == "rstream" {
		fields := strings.Fields(lastLine(said))
		us, err := strconv.ParseFloat(fields[len(fields)-1], 64)
		require.NoError(t, err, said)
		return us
	}
	found := eachWay.FindStringSubmatch(said)
	require.NotNil(t, found, said)
	took, err := time.ParseDuration(found[1])
	require.NoError(t, err)
	return float64(took.Nanoseconds()) / 1e3 / float64(2*c.n*c.c)
}

// rstreams has two ends of the rival's talk, and returns what the client says, or nothing where two
// ends of rsockets have come to a standstill, or siw has refused to connect: they do now and then.
func (g *guest) rstreams(t *testing.T, c contest, r rival) string {
	t.Helper()
	inC := r.rstream[0] == "rstream"
	p := g.inGuest(false)
	args := func(server bool) []string {
		x := xfer{size: c.size, count: c.n, iterations: c.c}
		all := slices.Concat(words("timeout 20"), r.rstream, x.common(), x.where(p, server))
		if !inC && !server {
			all = append(all, "-first")
		}
		return all
	}
	s := g.start(t, args(true)...)
	if inC {
		g.awaitListener(t, s, p)
	} else {
		require.NoError(t, s.WaitOutput("listening on"))
	}
	client := g.start(t, again(args(false))...)
	_, err := client.Wait()
	require.NoError(t, err)
	if said := client.Stdout(); inC && !strings.Contains(said, "custom") {
		t.Logf("%s: %s%s", r.name, said, client.Stderr())
		s.Kill()
		return ""
	}
	succeeds(t, s)
	return succeeds(t, client)
}

var eachWay = regexp.MustCompile(`bytes each way in (\S+)`)

// interval is that of two of the values between which the median is with 95 %, or as nearly as so
// few can tell: it makes no assumption on how they are distributed.
func interval(v []float64) (low, high float64) {
	v = slices.Clone(v)
	slices.Sort(v)
	n := len(v)
	outside, ways, k := 0.0, 1.0, 0 // of n tosses of a coin, fewer than k heads, or tails
	for ; 2*k < n; k++ {
		each := ways
		for range n {
			each /= 2
		}
		if outside += 2 * each; outside > 0.05 {
			break
		}
		ways = ways * float64(n-k) / float64(k+1)
	}
	k = max(k-1, 0)
	return v[k], v[n-1-k]
}

func TestInterval(t *testing.T) {
	for n, want := range map[int]int{1: 0, 5: 0, 6: 0, 7: 0, 8: 0, 9: 1, 13: 2, 20: 5} {
		v := make([]float64, n)
		for i := range v {
			v[i] = float64(n - i - 1)
		}
		low, high := interval(v)
		require.Equal(t, []float64{float64(want), float64(n - 1 - want)}, []float64{low, high}, n)
	}
}
