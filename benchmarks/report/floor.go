package main

import (
	"fmt"
	"io"

	"github.com/rdmanet/iwarp/benchmarks/internal/lab"
)

// A floor is a ratio that must hold.
type floor struct {
	path  string
	work  string
	table string
	most  float64 // 0 if there is none
	least float64 // 0 if there is none
}

var floors = []floor{
	{path: lab.SoftCRC, work: "ping-pong 64B", table: tableP50, most: 1.25},
	{path: lab.Soft, work: "ping-pong 64B", table: tableP50, most: 1.25},
	{path: lab.SoftCRC, work: "one-way 64KiB", table: tableRate, least: 0.5},
	{path: lab.Soft, work: "one-way 64KiB", table: tableRate, least: 0.7},
}

// The control must lie between these for a missed floor to mean anything.
const controlLow, controlHigh = 0.95, 1.05

// judge returns what became of f: "held", "missed", "cannot tell" or "" if it was not measured.
func (f floor) judge(m *matrix) string {
	ratios := m.ratios[key{f.path, f.work, f.table}]
	if len(ratios) == 0 {
		return ""
	}
	got := quantile(ratios, 0.5)
	if (f.most == 0 || got <= f.most) && (f.least == 0 || got >= f.least) {
		return "held"
	}
	control := quantile(m.ratios[key{lab.TCPAgain, f.work, f.table}], 0.5)
	if control < controlLow || control > controlHigh {
		return "cannot tell"
	}
	return "missed"
}

// printFloors reports whether no floor was missed.
func printFloors(out io.Writer, m *matrix) bool {
	ok := true
	for i, f := range floors {
		verdict := f.judge(m)
		if verdict == "" {
			continue
		}
		if i == 0 {
			fmt.Fprintln(out)
		}
		bound, limit := "at most", f.most
		if f.least > 0 {
			bound, limit = "at least", f.least
		}
		fmt.Fprintf(out, "- %s, %s: %s %.2f: %s\n", label(f.path), f.work, bound, limit, verdict)
		ok = ok && verdict != "missed"
	}
	return ok
}
