package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/rdmanet/iwarp/benchmarks/internal/lab"
)

// A matrix measures every workload on every path.
type matrix struct {
	reference *end
	variants  []*end
	works     []workload
	counts    map[cell]uint64   // repetitions that fill a slice
	ratios    map[key][]float64 // of a variant's slice to the reference's slices around it
	absolute  map[key][]float64 // the reference's own figures
}

type cell struct {
	path string
	work string
}

type key struct {
	path  string
	work  string
	table string
}

// warmUp is the part of a slice that is run on a connection before it is measured.
const warmUp = 8

func newMatrix(ctx context.Context, peer *lab.Peer, reference lab.Path, variants []lab.Path, works []workload) (*matrix, error) {
	m := &matrix{works: works, counts: map[cell]uint64{}, ratios: map[key][]float64{}, absolute: map[key][]float64{}}
	for _, p := range append([]lab.Path{reference}, variants...) {
		c, err := lab.Connect(ctx, p, peer)
		if err != nil {
			m.close()
			return nil, err
		}
		e := &end{path: p, peer: peer, client: c}
		if m.reference == nil {
			m.reference = e
		} else {
			m.variants = append(m.variants, e)
		}
	}
	return m, nil
}

func (m *matrix) ends() []*end {
	if m.reference == nil {
		return nil
	}
	return append([]*end{m.reference}, m.variants...)
}

func (m *matrix) close() {
	for _, e := range m.ends() {
		e.client.Close()
	}
}

// run takes about total.
func (m *matrix) run(ctx context.Context, rounds int, total time.Duration, log io.Writer) error {
	// Calibration costs about two slices of each kind.
	slices := len(m.works) * (rounds*(2*len(m.variants)+1) + 2*(len(m.variants)+1))
	slice := total / time.Duration(slices) * warmUp / (warmUp + 1)
	for _, w := range m.works {
		for _, e := range m.ends() {
			if err := m.calibrate(ctx, e, w, slice); err != nil {
				return err
			}
		}
	}
	for r := range rounds {
		for _, w := range m.works {
			if err := m.round(ctx, w); err != nil {
				return err
			}
		}
		fmt.Fprintf(log, "round %d of %d\n", r+1, rounds)
	}
	return nil
}

// calibrate finds how many repetitions fill a slice.
func (m *matrix) calibrate(ctx context.Context, e *end, w workload, slice time.Duration) error {
	for n := uint64(1); ; {
		s, err := m.slice(ctx, e, w, n)
		if err != nil {
			return err
		}
		if s.elapsed >= slice/4 {
			m.counts[cell{e.path.Name, w.name()}] = max(1, uint64(float64(n)*slice.Seconds()/s.elapsed.Seconds()))
			return nil
		}
		n *= 2
	}
}

// round runs each variant between two slices of the reference.
func (m *matrix) round(ctx context.Context, w workload) error {
	before, err := m.full(ctx, m.reference, w)
	if err != nil {
		return err
	}
	for _, e := range m.variants {
		v, err := m.full(ctx, e, w)
		if err != nil {
			return err
		}
		after, err := m.full(ctx, m.reference, w)
		if err != nil {
			return err
		}
		for i, ms := range w.measures {
			mean := (before.values[i] + after.values[i]) / 2
			if mean == 0 { // not measured on this system
				continue
			}
			k := key{e.path.Name, w.name(), ms.table}
			m.ratios[k] = append(m.ratios[k], v.values[i]/mean)
			k.path = m.reference.path.Name
			m.absolute[k] = append(m.absolute[k], after.values[i])
		}
		before = after
	}
	return nil
}

// full runs a slice on a new connection. What the kernel has learned on an old one, such as its
// buffers' sizes, would depend on how much it was used, and the reference's is used most.
func (m *matrix) full(ctx context.Context, e *end, w workload) (sample, error) {
	n := m.counts[cell{e.path.Name, w.name()}]
	if w.size > 0 {
		if err := e.client.Redial(ctx); err != nil {
			return sample{}, err
		}
		if _, err := m.slice(ctx, e, w, n/warmUp+1); err != nil {
			return sample{}, err
		}
	}
	return m.slice(ctx, e, w, n)
}

func (m *matrix) slice(ctx context.Context, e *end, w workload, n uint64) (sample, error) {
	if ctx.Err() != nil {
		return sample{}, errors.New("interrupted")
	}
	s, err := w.run(ctx, e, n)
	if err != nil {
		return sample{}, fmt.Errorf("%s, %s: %w", e.path.Name, w.name(), err)
	}
	return s, nil
}
