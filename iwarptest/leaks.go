package iwarptest

import (
	"net/netip"
	"testing"
	"time"

	"github.com/rdmanet/iwarp"
)

// settle is how long what a test has opened may stay open after it.
var settle = 5 * time.Second

// CheckLeaks fails the test if, a while after its end, connections or listeners of this module are
// open in the process that were not when it was called. Call it before all else, as clean-ups run
// in reverse order. Tests that run at the same time count as well. It relies on iwarp.Snapshot, so
// it finds nothing where IWARP_STATS is off.
func CheckLeaks(t testing.TB) {
	before := opened()
	t.Cleanup(func() {
		var left []string
		for end := time.Now().Add(settle); ; time.Sleep(10 * time.Millisecond) {
			left = left[:0]
			for what := range opened() {
				if !before[what] {
					left = append(left, what)
				}
			}
			if len(left) == 0 || time.Now().After(end) {
				break
			}
		}
		for _, what := range left {
			t.Errorf("still open: %s", what)
		}
	})
}

// opened describes what is open in the process.
func opened() map[string]bool {
	open := make(map[string]bool)
	now := iwarp.Snapshot()
	for _, c := range now.Conns {
		open[c.Transport+" connection from "+text(c.Local)+" to "+text(c.Remote)] = true
	}
	for _, l := range now.Listeners {
		open["listener on "+text(l.Addr)] = true
	}
	return open
}

func text(a netip.AddrPort) string { return a.String() }
