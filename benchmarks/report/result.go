package main

import (
	"encoding/json"
	"math"
	"slices"
	"time"

	"golang.org/x/perf/benchmath"

	"github.com/rdmanet/iwarp/benchmarks/internal/lab"
)

// A report is all that was measured.
type report struct {
	Date       time.Time `json:"date"`
	Seconds    float64   `json:"seconds"`
	Machine    machine   `json:"machine"`
	Peer       machine   `json:"peer"`
	TwoHosts   bool      `json:"two_hosts"`
	LoadBefore string    `json:"load_before"`
	LoadAfter  string    `json:"load_after"`
	Rounds     int       `json:"rounds"`
	Results    []*result `json:"results"`
	Bars       []verdict `json:"bars"`
	Failures   []string  `json:"failures"`
}

// A result is one measure of a workload on one path.
type result struct {
	Workload string `json:"workload"`
	Path     string `json:"path"`
	Unit     string `json:"unit"`
	More     bool   `json:"more_is_better"`

	Value   number   `json:"value"`   // median
	TCP     number   `json:"tcp"`     // median of the reference
	Ratio   number   `json:"ratio"`   // median of the pairs
	Low     number   `json:"low"`     // of the interval that has the median with a confidence of 95 %
	High    number   `json:"high"`    //
	Control number   `json:"control"` // Ratio of plain TCP to itself
	Usable  bool     `json:"usable"`  // says the control
	Slices  []number `json:"slices"`
	Ratios  []number `json:"ratios"`

	title, measure string
	plain, brief   bool
}

// A number is null in JSON if there is none.
type number float64

func (n number) MarshalJSON() ([]byte, error) {
	if !n.there() {
		return []byte("null"), nil
	}
	return json.Marshal(float64(n))
}

// UnmarshalJSON is what lets a report be read again.
func (n *number) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*n = number(math.NaN())
		return nil
	}
	return json.Unmarshal(b, (*float64)(n))
}

func (n number) there() bool { return !math.IsNaN(float64(n)) && !math.IsInf(float64(n), 0) }

// Between these the control must lie for a result to be usable.
const controlLow, controlHigh = 0.95, 1.05

const confidence = 0.95

// summarize returns the median and its interval, without assuming a distribution.
func summarize(values []float64) (median, low, high number) {
	values = slices.DeleteFunc(slices.Clone(values), func(v float64) bool { return math.IsNaN(v) || math.IsInf(v, 0) })
	if len(values) == 0 {
		nan := number(math.NaN())
		return nan, nan, nan
	}
	s := benchmath.AssumeNothing.Summary(benchmath.NewSample(values, &benchmath.DefaultThresholds), confidence)
	low, high = number(s.Lo), number(s.Hi)
	if !low.there() || !high.there() { // too few for that confidence
		low, high = number(slices.Min(values)), number(slices.Max(values))
	}
	return number(s.Center), low, high
}

// results turns the series into results: of each workload one measure after the other, and of each
// of these all paths, the reference first.
func results(all []*series) (rs []*result) {
	for len(all) > 0 {
		w := all[0].workload
		end := 0
		for end < len(all) && all[end].workload == w {
			end++
		}
		for i := range w.measures {
			rs = append(rs, w.results(i, all[:end])...)
		}
		all = all[end:]
	}
	return rs
}

func (w *workload) results(i int, paths []*series) (rs []*result) {
	m := w.measures[i]
	reference, _, _ := summarize(paths[0].own[i])
	control := number(math.NaN())
	for _, s := range paths {
		if s.path == lab.TCPAgain && !m.exact {
			control, _, _ = summarize(s.ratios[i])
		}
	}
	usable := !control.there() || controlLow <= control && control <= controlHigh
	for _, s := range paths {
		r := &result{Workload: w.name, Path: s.path, Unit: m.unit, More: m.more, TCP: reference, Control: control, Usable: usable,
			Slices: numbers(s.own[i]), Ratios: numbers(s.ratios[i]), title: w.title, measure: m.title, plain: m.plain, brief: m.brief}
		r.Value, _, _ = summarize(s.own[i])
		r.Ratio, r.Low, r.High = summarize(s.ratios[i])
		rs = append(rs, r)
	}
	return rs
}

func numbers(v []float64) []number {
	n := make([]number, len(v))
	for i := range v {
		n[i] = number(v[i])
	}
	return n
}

// find returns the result, or nil if it was not measured.
func (r *report) find(workload, unit, path string) *result {
	for _, x := range r.Results {
		if x.Workload == workload && x.Unit == unit && x.Path == path {
			return x
		}
	}
	return nil
}
