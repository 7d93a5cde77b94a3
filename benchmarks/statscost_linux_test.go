package benchmarks

import (
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp"
)

const statsChild = "IWARP_BENCHMARK_STATS"

var statsRounds = flag.Int("statscost", 0, "`rounds` of TestStatsCost")

// TestStatsCost compares what the statistics page costs: processes with it, again with it as the
// control, and with IWARP_STATS=off take turns, and the medians of the quotients within a round are
// printed. It is a measurement, so nothing fails whatever they are:
//
//	go test ./benchmarks -run StatsCost -statscost 20 -v
func TestStatsCost(t *testing.T) {
	if os.Getenv(statsChild) != "" {
		fmt.Println(costOfStats(t))
		return
	}
	if *statsRounds == 0 {
		t.Skip("only with -statscost")
	}
	names := []string{"off", "on", "on"}
	quotients := make(map[string][]float64)
	for round := range *statsRounds {
		var got [3]cost
		for i := range names {
			k := (i + round) % len(names)
			got[k] = runStatsChild(t, names[k])
		}
		for what, of := range map[string]func(cost) float64{
			"p50 of 64 B there and back": func(c cost) float64 { return c.p50 },
			"processor time of a set-up": func(c cost) float64 { return c.processor },
			"time of a set-up (1/rate)":  func(c cost) float64 { return c.setup },
		} {
			quotients[what+", with the page"] = append(quotients[what+", with the page"], of(got[1])/of(got[0]), of(got[2])/of(got[0]))
			quotients[what+", control"] = append(quotients[what+", control"], of(got[2])/of(got[1]))
		}
	}
	lines := make([]string, 0, len(quotients))
	for what, q := range quotients {
		slices.Sort(q)
		lines = append(lines, fmt.Sprintf("%-50s %.3f, middle half %.3f to %.3f", what, q[len(q)/2], q[len(q)/4], q[len(q)*3/4]))
	}
	slices.Sort(lines)
	t.Log("\n" + strings.Join(lines, "\n"))
}

// A cost is in nanoseconds.
type cost struct{ p50, processor, setup float64 }

func (c cost) String() string { return fmt.Sprintf("cost %f %f %f", c.p50, c.processor, c.setup) }

func runStatsChild(t *testing.T, stats string) (c cost) {
	exe, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(exe, "-test.run", "^TestStatsCost$")
	cmd.Env = append(os.Environ(), statsChild+"=1", "IWARP_STATS="+stats)
	out, err := cmd.Output()
	require.NoError(t, err, string(out))
	_, err = fmt.Sscanf(string(out), "cost %f %f %f", &c.p50, &c.processor, &c.setup)
	require.NoError(t, err, string(out))
	return c
}

// costOfStats sets up many connections of software, and sends bytes to and fro on one.
func costOfStats(t *testing.T) (c cost) {
	l, err := iwarp.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	go func() {
		for {
			s, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(s, struct{ io.Reader }{s})
				_ = s.Close()
			}()
		}
	}()
	d := iwarp.Dialer{Offload: iwarp.OffloadRequire}
	dial := func() net.Conn {
		s, err := d.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		return s
	}
	b := make([]byte, 64)
	ping := func(s net.Conn) {
		_, err := s.Write(b)
		require.NoError(t, err)
		_, err = io.ReadFull(s, b)
		require.NoError(t, err)
	}
	setUp := func(n int) {
		for range n {
			s := dial()
			ping(s)
			require.NoError(t, s.Close())
		}
	}
	setUp(200)
	const setups, pings = 2500, 15000
	used, began := processorTime(t), time.Now()
	setUp(setups)
	c.setup = float64(time.Since(began)) / setups
	c.processor = float64(processorTime(t)-used) / setups
	s := dial()
	defer s.Close()
	times := make([]time.Duration, pings)
	for i := range times {
		began := time.Now()
		ping(s)
		times[i] = time.Since(began)
	}
	slices.Sort(times)
	c.p50 = float64(times[pings/2])
	return c
}

func processorTime(t *testing.T) time.Duration {
	var u syscall.Rusage
	require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
