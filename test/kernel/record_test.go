//go:build linux

package kernel

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
)

// A cell names what one peer was tried with. Tests of the same name share a cell; the document has
// a line for all cells of a peer and a role.
type cell struct {
	Peer    string // program and what it runs on, such as "rstream (siw)"
	Role    string // of our end: client, server, or none for a control
	Route   string // where our end is and how it reaches the peer
	Options string // what the two ends do, such as "MPA 2, CRC by both"
}

// A tally counts the ends of a cell's tests.
type tally struct {
	Passed, Failed int
	Faults         map[string]int // by reason
}

var results struct {
	sync.Mutex
	cells    map[cell]*tally
	sections map[string]string
}

func (c cell) tally(f func(*tally)) {
	results.Lock()
	defer results.Unlock()
	if results.cells == nil {
		results.cells = make(map[cell]*tally)
	}
	if results.cells[c] == nil {
		results.cells[c] = &tally{Faults: make(map[string]int)}
	}
	f(results.cells[c])
}

// record notes how the test ends.
func record(t *testing.T, c cell) {
	t.Helper()
	t.Cleanup(func() {
		c.tally(func(n *tally) {
			if t.Failed() {
				t.Logf("the guest's kernel says: %s", boot.vm.lastWords())
				n.Failed++
			} else if !t.Skipped() {
				n.Passed++
			}
		})
	})
}

// fault records that what the cell wants does not work for a reason that is not ours. A control
// must show that, and the test is to check that it still is so.
func fault(t *testing.T, c cell, reason string) {
	t.Helper()
	t.Logf("fault of the peer: %s", reason)
	c.tally(func(n *tally) { n.Faults[reason]++ })
}

// section has the document end with text under a title.
func section(title, text string) {
	results.Lock()
	defer results.Unlock()
	if results.sections == nil {
		results.sections = make(map[string]string)
	}
	results.sections[title] = text
}

// A summary is a line of the document: what all cells of a peer and a role of ours came to.
type summary struct {
	routes         map[string]bool
	cells          int
	passed, failed int
	faults         map[string]int // by reason
}

// summarize adds up the cells of each peer and role. The caller holds results' lock.
func summarize() map[cell]*summary {
	sums := make(map[cell]*summary)
	for c, n := range results.cells {
		line := cell{Peer: c.Peer, Role: c.Role}
		sum := sums[line]
		if sum == nil {
			sum = &summary{routes: make(map[string]bool), faults: make(map[string]int)}
			sums[line] = sum
		}
		sum.routes[c.Route] = true
		sum.cells++
		sum.passed += n.Passed
		sum.failed += n.Failed
		for why, k := range n.Faults {
			sum.faults[why] += k
		}
	}
	return sums
}

func (s *summary) String() string {
	var why []string
	for _, w := range slices.Sorted(maps.Keys(s.faults)) {
		why = append(why, fmt.Sprintf("%d: %s", s.faults[w], w))
	}
	return fmt.Sprintf("%s | %d | %d | %d | %s", strings.Join(slices.Sorted(maps.Keys(s.routes)), ", "),
		s.cells, s.passed, s.failed, strings.Join(why, "; "))
}

// programs are the packages whose versions the document names.
var programs = []string{"librdmacm1", "rdmacm-utils", "ibverbs-providers", "perftest", "iperf3", "curl", "socat", "nuttcp", "netpipe-tcp", "tcpdump", "tshark", "qemu-system-x86"}

// writeResults writes the document of results.
func writeResults(file string) error {
	results.Lock()
	defer results.Unlock()
	var b strings.Builder
	form := "the part that covers each option once"
	if *fullFlag {
		form = "the whole"
	}
	fmt.Fprintf(&b, resultsHead, form)
	fmt.Fprintf(&b, "Guest kernel: %s with siw and rxe of the same source.", kernelRelease())
	for _, p := range programs {
		if v, err := exec.Command("dpkg-query", "-W", "-f", "${Version}", p).Output(); err == nil {
			fmt.Fprintf(&b, " %s %s.", p, v)
		}
	}
	b.WriteString("\n\n| peer | our role | routes | cells | passed | failed | faults of the peer |\n|---|---|---|---|---|---|---|\n")
	sums := summarize()
	order := func(x, y cell) int { return cmp.Or(cmp.Compare(x.Peer, y.Peer), cmp.Compare(x.Role, y.Role)) }
	passed, failed, faults := 0, 0, 0
	for _, c := range slices.SortedFunc(maps.Keys(sums), order) {
		sum := sums[c]
		fmt.Fprintf(&b, "| %s | %s | %v |\n", c.Peer, c.Role, sum)
		passed, failed = passed+sum.passed, failed+sum.failed
		for _, k := range sum.faults {
			faults += k
		}
	}
	fmt.Fprintf(&b, "\n%d passed, %d failed, %d with a fault of the peer.\n", passed, failed, faults)
	fmt.Fprintf(&b, "\n## Captures\n\n%s", captures())
	for _, title := range slices.Sorted(maps.Keys(results.sections)) {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n", title, strings.TrimSpace(results.sections[title]))
	}
	return os.WriteFile(file, []byte(b.String()), 0o644)
}

func kernelRelease() string {
	if boot.vm == nil {
		return "none booted"
	}
	return boot.vm.release
}

const resultsHead = `# Results of the suite with real peers

Written by

    go test ./test/kernel -kernel -full -timeout 60m -results RESULTS.md

from a run of %s of the suite. [What works with whom](../../docs/peers.md), in words, is another document.
A cell is one peer with one role of ours, one route and one set of options. A control is two ends that
are both not ours. A fault of the peer is one that its control shows as well.

`
