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

// perftestMPA are the options with which perftest is run, over all sizes with the first of them.
var perftestMPA = []mpaOptions{{rev: 2, ourCRC: true}, {rev: 2}, {rev: 2, siwCRC: true, ourCRC: true}, {rev: 1}, {rev: 1, siwCRC: true, ourCRC: true}}

func (m measure) name() string { return fmt.Sprintf("%s/%dx%d", m.program, m.size, m.count) }

// theirs has perftest exchange what it has to over rdma_cm as well, as siw's queue pairs cannot be connected otherwise.
func (m measure) theirs(p pair, server bool) []string {
	a := []string{m.program, "-R", "-s", strconv.Itoa(m.size), "-n", strconv.Itoa(m.count), "-p", p.port}
	if server {
		return a
	}
	a[len(a)-1] = p.dialPort
	return append(a, p.dial)
}

func (m measure) ours(p pair, server bool, o mpaOptions) []string {
	where := []string{"-c", p.dial, "-p", p.dialPort}
	if server {
		where = []string{"-l", p.listen, "-p", p.port}
	}
	return slices.Concat([]string{"go-perftest"}, o.flags(), []string{"-s", strconv.Itoa(m.size), "-n", strconv.Itoa(m.count)}, where, []string{m.program})
}

// Perftest on siw and package transport: its exchange, which is Sends of its own, and what it measures.
func TestPerftest(t *testing.T) {
	g := theGuest(t)
	for _, m := range measures {
		if m.size != usual && !*fullFlag {
			continue
		}
		t.Run("control/"+m.name(), func(t *testing.T) {
			record(t, cell{m.program + " -R (siw)", "control", "eth0", fmt.Sprintf("%d bytes", m.size)})
			m.until(t, func() string {
				p := g.inGuest(t, false)
				s := g.start(t, m.theirs(p, true)...)
				g.awaitListener(t, s, p)
				c := g.start(t, m.theirs(p, false)...)
				return ended(t, c) + ended(t, s)
			})
		})
	}
	pairs(t, onIPv4, func(t *testing.T, g *guest, goServes bool, r route, want expected) {
		for i, o := range perftestMPA {
			if i > 0 && !*fullFlag || i > 1 && r.name != "veth" || r.broken(t, goServes, o, "perftest -R (siw)", "") {
				continue
			}
			t.Run(o.name(), func(t *testing.T) {
				o.set(t, g)
				for _, m := range measures {
					if m.size != usual && (i > 0 || r.name != "veth" || !*fullFlag) {
						continue
					}
					t.Run(m.name(), func(t *testing.T) {
						record(t, cell{m.program + " -R (siw)", roleName(goServes), r.name, o.String()})
						m.until(t, func() string {
							p := g.newPair(t, goServes, r)
							want.add(t, p, o.session(goServes))
							goEnd, cEnd := g.roles(t, p,
								func(server bool) []string { return m.ours(p, server, o) },
								func(server bool) []string { return m.theirs(p, server) })
							defer g.noTerminate(t)
							return ended(t, cEnd) + ended(t, goEnd)
						})
					})
				}
			})
		}
	})
}

// unsteady is what perftest says, before it gives up, when the clock of an emulated processor does not satisfy it.
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
