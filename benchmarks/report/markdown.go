package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/rdmanet/iwarp/benchmarks/internal/lab"
)

// A table is what is printed in Markdown and on the page.
type table struct {
	Head []string
	Rows []row
}

type row struct {
	Cells  []string
	Usable bool
}

// columns are the paths of a table beside plain TCP itself, those of the same label in one column.
var (
	briefColumns = []string{lab.TCPAgain, lab.SoftCRC, lab.Soft, lab.TLS, lab.Shm, lab.Unix}
	allColumns   = []string{lab.TCPAgain, lab.Fallback, lab.SoftCRC, lab.SoftPoll, lab.Soft, lab.TLS, lab.Shm, lab.ShmPoll, lab.Unix}
)

// table returns a row for each workload and measure, or only for those that are for the README.
func (r *report) table(brief bool) table {
	columns := allColumns
	if brief {
		columns = briefColumns
	}
	columns = slices.DeleteFunc(slices.Clone(columns), func(p string) bool {
		return !slices.ContainsFunc(r.Results, func(x *result) bool { return x.Path == p })
	})
	t := table{Head: []string{"", label(lab.TCP)}}
	for _, p := range columns {
		t.Head = append(t.Head, label(p))
	}
	for _, of := range r.measures() {
		reference := of[0]
		if brief && !reference.brief {
			continue
		}
		w := row{Cells: []string{reference.title + ", " + reference.measure, absolute(reference.TCP, reference.Unit)}, Usable: reference.Usable}
		for _, p := range columns {
			w.Cells = append(w.Cells, cell(of, p, brief))
		}
		t.Rows = append(t.Rows, w)
	}
	return t
}

// measures returns the results of each measure of each workload.
func (r *report) measures() (groups [][]*result) {
	for _, x := range r.Results {
		if n := len(groups); n > 0 && groups[n-1][0].Workload == x.Workload && groups[n-1][0].Unit == x.Unit {
			groups[n-1] = append(groups[n-1], x)
		} else {
			groups = append(groups, []*result{x})
		}
	}
	return groups
}

func cell(of []*result, path string, brief bool) string {
	for _, x := range of {
		if label(x.Path) != label(path) {
			continue
		}
		s := ratio(x.Ratio)
		switch {
		case x.plain:
			s = absolute(x.Value, x.Unit)
		case !brief && x.Ratio.there():
			s += fmt.Sprintf(" (%s–%s)", ratio(x.Low), ratio(x.High))
		}
		switch {
		case x.Usable:
			return s
		case path == lab.TCPAgain:
			return s + ", not usable"
		case brief:
			return "(" + s + ")"
		}
		return s + "?"
	}
	return ""
}

func (t table) markdown(out io.Writer) {
	fmt.Fprintf(out, "| %s |\n|%s\n", strings.Join(t.Head, " | "), strings.Repeat("---|", len(t.Head)))
	for _, w := range t.Rows {
		fmt.Fprintf(out, "| %s |\n", strings.Join(w.Cells, " | "))
	}
}

// barTable has a row for each bar.
func (r *report) barTable() table {
	t := table{Head: []string{"what", "bar", "stretch", "measured", "control", ""}}
	for _, v := range r.Bars {
		t.Rows = append(t.Rows, row{Cells: []string{v.What, v.bound(v.Bar), v.bound(v.Stretch), v.measured(), ratio(v.Control), v.Verdict}, Usable: v.Verdict != notUsable})
	}
	return t
}

func (v verdict) bound(n number) string {
	if !n.there() {
		return ""
	}
	if v.Least {
		return "≥ " + v.value(n)
	}
	return "≤ " + v.value(n)
}

func (v verdict) measured() string {
	if !v.Low.there() {
		return v.value(v.Value)
	}
	return fmt.Sprintf("%s (%s–%s)", v.value(v.Value), v.value(v.Low), v.value(v.High))
}

func (v verdict) value(n number) string {
	if v.unit == "ratio" {
		return ratio(n)
	}
	return absolute(n, v.unit)
}

// conditions says what was measured, when, where and how.
func (r *report) conditions() string {
	where := "client and server in two processes of one host: " + r.Machine.String()
	if r.TwoHosts {
		where = fmt.Sprintf("client and server on two hosts: %v; %v", r.Machine, r.Peer)
	}
	s := fmt.Sprintf("Ratios to plain TCP, medians of up to %d interleaved pairs; %s. %s, in %v",
		r.Rounds, where, r.Date.Format("2 January 2006"), time.Duration(r.Seconds*float64(time.Second)).Round(time.Second))
	if r.LoadBefore != "" {
		s += fmt.Sprintf(", load %s before and %s after", r.LoadBefore, r.LoadAfter)
	}
	return s + "."
}

// legend says what the marks in the tables mean.
func (r *report) legend() string {
	bad := 0
	for _, of := range r.measures() {
		if !of[0].Usable {
			bad++
		}
	}
	s := fmt.Sprintf("The control is plain TCP against itself. Where it is outside %.2f–%.2f, the row says nothing and is marked as not usable", controlLow, controlHigh)
	if bad == 0 {
		return s + "; none is."
	}
	return s + fmt.Sprintf(": %d of %d.", bad, len(r.measures()))
}

// markdown prints all there is.
func (r *report) markdown(out io.Writer) {
	r.brief(out)
	fmt.Fprintf(out, "\nAll measures, with the intervals that have the median with a confidence of 95 %%:\n\n")
	r.details(out)
}

// brief prints what README shows.
func (r *report) brief(out io.Writer) {
	r.head(out)
	r.table(true).markdown(out)
}

func (r *report) head(out io.Writer) {
	fmt.Fprintf(out, "%s\n\n", wrap(r.conditions()+" "+r.legend()))
}

// details prints every measure, and what became of the bars.
func (r *report) details(out io.Writer) {
	r.table(false).markdown(out)
	if len(r.Bars) > 0 {
		fmt.Fprintf(out, "\nThe bars:\n\n")
		r.barTable().markdown(out)
	}
	for i, f := range r.Failures {
		if i == 0 {
			fmt.Fprintf(out, "\nFailed:\n\n")
		}
		fmt.Fprintf(out, "- %s\n", f)
	}
}

// wrap breaks s into lines of at most 100 columns.
func wrap(s string) string {
	var b strings.Builder
	column := 0
	for i, word := range strings.Fields(s) {
		n := len([]rune(word))
		switch {
		case i > 0 && column+1+n > 100:
			b.WriteByte('\n')
			column = 0
		case i > 0:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += n
	}
	return b.String()
}
