package main

import (
	"context"
	"net"
	"sync"
	"sync/atomic"

	"github.com/rdmanet/iwarp/benchmarks/internal/lab"
)

// A dialer sets up connections, so many at once.
type dialer struct {
	b      *bench
	path   lab.Path
	atOnce int
}

func (d *dialer) close() {}

func (d *dialer) run(ctx context.Context, n uint64) (sample, error) {
	m, err := d.b.meter()
	if err != nil {
		return sample{}, err
	}
	if err := share(n, d.atOnce, func(_ int, next func() bool) error { return d.work(ctx, next) }); err != nil {
		return sample{}, err
	}
	used, err := m.read()
	return sample{[]float64{float64(n) / used.took.Seconds(), float64(used.cpu) / float64(n), used.objects / float64(n)}, used.took}, err
}

func (d *dialer) work(ctx context.Context, next func() bool) error {
	var open slot
	p := open.watch(d.path)
	return during(ctx, &open, func() error {
		for ctx.Err() == nil && next() {
			if err := lab.SetUp(ctx, p, d.b.peer.Address(p, "")); err != nil {
				return err
			}
		}
		return ctx.Err()
	})
}

// A slot holds the connection that its user waits for.
type slot struct{ atomic.Pointer[net.Conn] }

// watch has what p dials put into s.
func (s *slot) watch(p lab.Path) lab.Path {
	dial := p.Dial
	p.Dial = func(ctx context.Context, address string) (net.Conn, error) {
		c, err := dial(ctx, address)
		if err == nil {
			s.Store(&c)
		}
		return c, err
	}
	return p
}

// Close closes the connection in s.
func (s *slot) Close() error {
	if c := s.Load(); c != nil {
		return (*c).Close()
	}
	return nil
}

// share runs work on so many goroutines, which do n operations together: each asks next before each
// operation whether there is one more. It returns one of their errors.
func share(n uint64, among int, work func(i int, next func() bool) error) error {
	var (
		wg    sync.WaitGroup
		done  atomic.Uint64
		first atomic.Pointer[error]
	)
	next := func() bool { return done.Add(1) <= n }
	for i := range among {
		wg.Go(func() {
			if err := work(i, next); err != nil {
				first.CompareAndSwap(nil, &err)
			}
		})
	}
	wg.Wait()
	if err := first.Load(); err != nil {
		return *err
	}
	return nil
}
