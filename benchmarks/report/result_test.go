package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/benchmarks/internal/lab"
)

func TestSummary(t *testing.T) {
	median, low, high := summarize([]float64{5, 1, 2, 4, 3, 6, 7, 8, 9, 10, 11, 12, 13})
	require.Equal(t, number(7), median)
	require.Equal(t, number(3), low) // order statistics of 13: 0.98 of confidence
	require.Equal(t, number(11), high)
	median, low, high = summarize([]float64{3, 1, math.NaN(), math.Inf(1), 2})
	require.Equal(t, []number{2, 1, 3}, []number{median, low, high}, "too few for the confidence: their range")
	median, _, _ = summarize(nil)
	require.False(t, median.there())
}

func TestNumber(t *testing.T) {
	b, err := json.Marshal([]number{1.5, number(math.NaN()), number(math.Inf(1))})
	require.NoError(t, err)
	require.JSONEq(t, "[1.5, null, null]", string(b))
	var back []number
	require.NoError(t, json.Unmarshal(b, &back))
	require.Equal(t, number(1.5), back[0])
	require.False(t, back[1].there())
}

// reportOf has one workload with a figure for each path.
func reportOf(more bool, ratios map[string]float64) *report {
	w := &workload{name: "W", title: "w", measures: []measure{{unit: p50, title: "p50", more: more}}}
	var all []*series
	for _, path := range []string{lab.TCP, lab.TCPAgain, lab.SoftCRC, lab.TLS} {
		v, ok := ratios[path]
		if !ok {
			continue
		}
		s := newSeries(w, path)
		for range 13 {
			if path == lab.TCP {
				s.add([]float64{v}, nil, nil)
			} else {
				s.add([]float64{v}, []float64{1}, []float64{1})
			}
		}
		all = append(all, s)
	}
	return &report{Results: results(all)}
}

func TestBars(t *testing.T) {
	most := bar{workload: "W", unit: p50, path: lab.SoftCRC, bar: 1.25, stretch: 1.1}
	against := bar{workload: "W", unit: p50, path: lab.SoftCRC, against: lab.TLS, bar: 2}
	beyond := bar{workload: "W", unit: p50, path: lab.SoftCRC, beyond: true, bar: 0.1}
	for _, c := range []struct {
		name           string
		bar            bar
		more           bool
		ratio, control float64
		want           string
	}{
		{"below the stretch", most, false, 1.1, 1, reachedStretch},
		{"below the bar", most, false, 1.2, 1.05, reached},
		{"above the bar", most, false, 1.3, 1, missed},
		{"below the bar on a busy machine", most, false, 1.2, 1.06, notUsable},
		{"above the bar on a busy machine", most, false, 1.3, 0.94, notUsable},
		{"above the least", most, true, 1.3, 1, reachedStretch},
		{"below the least", most, true, 1, 1, missed},
		{"against another path", against, true, 1, 1, reached},
		{"too little against another path", against, true, 0.9, 1, missed},
		{"little beyond", beyond, false, 1.05, 1, reached},
		{"much beyond", beyond, false, 1.2, 1, missed},
	} {
		r := reportOf(c.more, map[string]float64{lab.TCP: 1, lab.TCPAgain: c.control, lab.SoftCRC: c.ratio, lab.TLS: 0.5})
		vs := r.judge([]bar{c.bar})
		require.Len(t, vs, 1)
		require.Equal(t, c.want, vs[0].Verdict, c.name)
	}
	require.Empty(t, new(report).judge(bars), "not measured")
}

// TestBarsAreOfWorkloads finds a bar that would never be looked at.
func TestBarsAreOfWorkloads(t *testing.T) {
	ws := workloads(fullScale)
	for _, b := range bars {
		found := false
		for _, w := range ws {
			for _, m := range w.measures {
				found = found || w.name == b.workload && m.unit == b.unit && w.on(b.path) && (b.against == "" || w.on(b.against))
			}
		}
		require.True(t, found, "%+v", b)
	}
}

func TestNotUsable(t *testing.T) {
	r := reportOf(false, map[string]float64{lab.TCP: 1, lab.TCPAgain: 1.06, lab.SoftCRC: 1.2})
	full := r.table(false)
	require.Equal(t, []string{"", "plain TCP", "control", "CRC32C"}, full.Head)
	require.Equal(t, []string{"w, p50", "0.00 µs", "1.06 (1.06–1.06), not usable", "1.20 (1.20–1.20)?"}, full.Rows[0].Cells)
	require.Contains(t, r.legend(), "1 of 1")
	r = reportOf(false, map[string]float64{lab.TCP: 1000, lab.TCPAgain: 1.05, lab.SoftCRC: 1.2})
	require.Equal(t, []string{"w, p50", "1.00 µs", "1.05 (1.05–1.05)", "1.20 (1.20–1.20)"}, r.table(false).Rows[0].Cells)
	require.Contains(t, r.legend(), "none is")
}

// TestBrief keeps what README shows to a size that can be read.
func TestBrief(t *testing.T) {
	rows := 0
	for _, w := range workloads(fullScale) {
		for _, m := range w.measures {
			if m.brief {
				rows++
			}
		}
	}
	require.LessOrEqual(t, rows, 20)
}

// A scripted runner fails when it is told to.
type scripted struct {
	runs    int
	failsAt int
	err     error
}

func (s *scripted) close() {}

func (s *scripted) run(context.Context, uint64) (sample, error) {
	s.runs++
	if s.runs == s.failsAt {
		return sample{}, s.err
	}
	return sample{[]float64{1}, time.Second}, nil
}

// TestFailedPath leaves a path that fails out, and keeps the others.
func TestFailedPath(t *testing.T) {
	broken := errors.New("broken")
	b := &bench{peer: &lab.Peer{Addresses: map[string]string{}}}
	for _, p := range lab.Paths() {
		b.peer.Addresses[p.Name] = "somewhere"
	}
	measureWith := func(failing string, at int) map[string]*series {
		w := workload{name: "W", paths: []string{lab.SoftCRC, lab.Soft}, measures: []measure{{unit: p50}},
			prepare: func(_ context.Context, _ *bench, p lab.Path) (runner, error) {
				s := &scripted{err: broken}
				if p.Name == failing {
					if at == 0 {
						return nil, broken
					}
					s.failsAt = at
				}
				return s, nil
			}}
		all, err := measureAll(t.Context(), b, []workload{w}, lab.Paths(), plan{time.Second, 3}, io.Discard)
		require.NoError(t, err)
		by := map[string]*series{}
		for _, s := range all {
			by[s.path] = s
		}
		return by
	}
	for at, slices := range []int{0, 0, 0, 0, 1, 2} { // the first two runs calibrate
		by := measureWith(lab.SoftCRC, at)
		require.ErrorIs(t, by[lab.SoftCRC].err, broken)
		require.Len(t, by[lab.SoftCRC].ratios[0], slices)
		require.NoError(t, by[lab.Soft].err)
		require.Len(t, by[lab.Soft].ratios[0], 3)
		require.Len(t, by[lab.TCPAgain].ratios[0], 3)
	}
	by := measureWith(lab.TCP, 3)
	require.ErrorIs(t, by[lab.TCP].err, broken)
	require.Empty(t, by[lab.Soft].ratios[0], "there is nothing to compare with")
}

// TestDuring ends what waits without a deadline.
func TestDuring(t *testing.T) {
	a, b := net.Pipe()
	defer b.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go cancel()
	err := during(ctx, a, func() error {
		_, err := a.Read(make([]byte, 1))
		return err
	})
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, during(t.Context(), a, func() error { return nil }))
}
