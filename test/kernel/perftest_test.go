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

// A measure is a run of a program of perftest, which only knows IPv4.
type measure struct {
	program     string
	size, count int
}

// usual is the size that is measured with all options.
const usual = 4096

var measures = []measure{
	{"ib_send_lat", 2, 100}, {"ib_send_lat", usual, 100}, {"ib_send_lat", 65536, 20},
	{"ib_write_bw", 2, 200}, {"ib_write_bw", usual, 200}, {"ib_write_bw", 1 << 20, 5},
	{"ib_read_lat", 2, 100}, {"ib_read_lat", usual, 100}, {"ib_read_lat", 65536, 20},
}

// perftestMPA are the options with which perftest is run: on all routes with the first of them,
// which is run with all sizes on one.
var perftestMPA = []mpaOptions{{rev: 2, ourCRC: true}, {rev: 2}, {rev: 2, siwCRC: true, ourCRC: true}, {rev: 1}, {rev: 1, siwCRC: true, ourCRC: true}}

func (m measure) name() string { return fmt.Sprintf("%s/%dx%d", m.program, m.size, m.count) }

// theirs has perftest exchange what it has to over rdma_cm as well, as siw's queue pairs cannot be
// connected otherwise.
func (m measure) theirs(p pair, server bool) []string {
	a := []string{m.program, "-R", "-s", strconv.Itoa(m.size), "-n", strconv.Itoa(m.count), "-p", p.port}
	if server {
		return a
	}
	a[len(a)-1] = p.port
	return append(a, p.addr)
}

func (m measure) ours(p pair, server bool, o mpaOptions) []string {
	where := []string{"-c", p.addr, "-p", p.port}
	if server {
		where = []string{"-l", p.addr, "-p", p.port}
	}
	return slices.Concat([]string{"go-perftest"}, o.flags(), []string{"-s", strconv.Itoa(m.size), "-n", strconv.Itoa(m.count)}, where, []string{m.program})
}

// Perftest on siw and package transport: its exchange, which is Sends of its own, and what it
// measures.
func TestPerftest(t *testing.T) {
	g := theGuest(t)
	for _, m := range measures {
		if m.size != usual && !*fullFlag {
			continue
		}
		t.Run("control/"+m.name(), func(t *testing.T) {
			record(t, cell{m.program + " -R (siw)", "control", "eth0", fmt.Sprintf("%d bytes", m.size)})
			m.until(t, func() string {
				p := g.inGuest(false)
				s := g.start(t, m.theirs(p, true)...)
				g.awaitListener(t, s, p)
				c := g.start(t, again(m.theirs(p, false))...)
				return ended(t, c) + ended(t, s)
			})
		})
	}
	wanted := func(m meeting) bool { return m.nth == 0 || *fullFlag && m.route.name == "veth" }
	pairs(t, onIPv4, perftestMPA, wanted, func(t *testing.T, g *guest, m meeting) {
		for _, x := range measures {
			if x.size != usual && (m.nth > 0 || m.route.name != "veth" || !*fullFlag) {
				continue
			}
			t.Run(x.name(), func(t *testing.T) {
				record(t, m.cell(x.program+" -R (siw)", ""))
				x.until(t, func() string {
					p := g.newPair(m.goServes, m.route)
					m.want.add(t, p, m.o.session(m.goServes))
					goEnd, cEnd := g.roles(t, p,
						func(server bool) []string { return x.ours(p, server, m.o) },
						func(server bool) []string { return x.theirs(p, server) })
					return ended(t, cEnd) + ended(t, goEnd)
				})
			})
		}
	})
}

// unsteady is what perftest says, before it gives up, when the clock of an emulated processor does
// not satisfy it.
const unsteady = "Can't produce a report"

// until runs both ends until perftest finds the clock good enough for a report, some times at most.
func (m measure) until(t *testing.T, run func() (wrong string)) {
	t.Helper()
	wrong := ""
	for range 5 {
		if wrong = run(); !strings.Contains(wrong, unsteady) {
			break
		}
		t.Log("perftest is not content with the clock; once more")
	}
	require.Empty(t, wrong)
}

// ended waits for the end of the process, and returns all that it has said if that is no success.
func ended(t *testing.T, p *agent.Process) (wrong string) {
	t.Helper()
	exit, err := p.Wait()
	if exit == 0 && err == nil {
		t.Log(lastLine(p.Stdout()))
		return ""
	}
	return fmt.Sprintf("status %d, %v: %s%s", exit, err, p.Stdout(), p.Stderr())
}
