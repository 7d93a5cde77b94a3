package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/rdmanet/iwarp/benchmarks/internal/lab"
)

// A series holds what the slices of a workload have yielded on one path.
type series struct {
	workload *workload
	path     string
	err      error
	own      [][]float64 // by measure, then by round
	ratios   [][]float64 // of a slice to the mean of the reference's slices around it; empty for the reference
}

func newSeries(w *workload, path string) *series {
	return &series{workload: w, path: path, own: make([][]float64, len(w.measures)), ratios: make([][]float64, len(w.measures))}
}

func (s *series) add(own, before, after []float64) {
	for i, v := range own {
		s.own[i] = append(s.own[i], v)
		if before != nil {
			s.ratios[i] = append(s.ratios[i], 2*v/(before[i]+after[i]))
		}
	}
}

// A lane is one path while a workload runs.
type lane struct {
	*series
	runner runner
	n      uint64 // operations that fill a slice
}

// sliceTimeout ends a slice that hangs.
const sliceTimeout = time.Minute

var errSlice = fmt.Errorf("a slice took longer than %v", sliceTimeout)

// A plan says how long to measure.
type plan struct {
	time   time.Duration // for all workloads
	rounds int
}

// measureAll runs every workload on every path. A path that fails is left out of the rest of its
// workload, and its series says why.
func measureAll(ctx context.Context, b *bench, ws []workload, paths []lab.Path, p plan, log io.Writer) ([]*series, error) {
	var all []*series
	for i := range ws {
		w := &ws[i]
		fmt.Fprintf(log, "%d of %d: %s\n", i+1, len(ws), w.title)
		lanes := lanesOf(ctx, b, w, paths)
		w.measure(ctx, lanes, plan{w.share(p.time, ws), p.rounds})
		for _, l := range lanes {
			if l.runner != nil {
				l.runner.close()
			}
			if l.err != nil {
				fmt.Fprintf(log, "%s on %s: %v\n", w.name, l.path, l.err)
			}
			all = append(all, l.series)
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("after %d of %d measurements: %w", i, len(ws), context.Cause(ctx))
		}
	}
	return all, nil
}

// lanesOf returns the paths of the workload, the reference first.
func lanesOf(ctx context.Context, b *bench, w *workload, paths []lab.Path) (lanes []*lane) {
	for _, p := range paths {
		if !b.has(p) || !w.on(p.Name) {
			continue
		}
		l := &lane{series: newSeries(w, p.Name), n: w.fixed}
		l.within(ctx, func(ctx context.Context) (err error) {
			l.runner, err = w.prepare(ctx, b, p)
			return err
		})
		lanes = append(lanes, l)
	}
	return lanes
}

// measure runs the rounds of one workload.
func (w *workload) measure(ctx context.Context, lanes []*lane, p plan) {
	reference, variants := lanes[0], lanes[1:]
	rounds := p.rounds
	if w.rounds > 0 {
		rounds = min(rounds, w.rounds)
	}
	if w.fixed > 0 {
		reference.slice(ctx) // the runtime keeps what goroutines once took
	} else {
		// To find out what fills a slice takes about two, and a slice has its warm-up.
		slice := p.time / time.Duration(rounds*(2*len(variants)+1)+2*len(lanes)) * warmUp / (warmUp + 1)
		for _, l := range lanes {
			l.calibrate(ctx, slice)
		}
	}
	for range rounds {
		before := reference.slice(ctx)
		for _, l := range variants {
			own := l.slice(ctx)
			after := before
			if !w.steady {
				after = reference.slice(ctx)
			}
			if own != nil && after != nil && before != nil {
				l.add(own, before, after)
				reference.add(after, nil, nil)
			}
			before = after
		}
	}
}

// within runs f, unless the lane has failed, for as long as a slice may take.
func (l *lane) within(ctx context.Context, f func(ctx context.Context) error) {
	if l.err != nil {
		return
	}
	ctx, cancel := context.WithTimeoutCause(ctx, sliceTimeout, errSlice)
	defer cancel()
	l.err = f(ctx)
}

// slice returns the figures of a slice, and nil if the lane has failed.
func (l *lane) slice(ctx context.Context) (values []float64) {
	l.within(ctx, func(ctx context.Context) error {
		s, err := l.runner.run(ctx, l.n)
		values = s.values
		return err
	})
	if l.err != nil {
		return nil
	}
	return values
}

// calibrate finds how many operations fill a slice. What takes long once, as at the beginning, says
// little.
func (l *lane) calibrate(ctx context.Context, slice time.Duration) {
	l.within(ctx, func(ctx context.Context) error {
		for l.n = 1; ; l.n *= 2 {
			took := time.Duration(math.MaxInt64)
			for tries := 0; tries < 2 && took >= slice/4; tries++ {
				s, err := l.runner.run(ctx, l.n)
				if err != nil {
					return err
				}
				took = min(took, s.elapsed)
			}
			if took >= slice/4 {
				l.n = max(1, uint64(float64(l.n)*slice.Seconds()/took.Seconds()))
				return nil
			}
		}
	})
}

// on reports whether the workload is for the path.
func (w *workload) on(path string) bool {
	if path == lab.TCP || path == lab.TCPAgain {
		return true
	}
	for _, p := range w.paths {
		if p == path {
			return true
		}
	}
	return false
}
