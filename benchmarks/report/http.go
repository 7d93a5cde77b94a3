package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/rdmanet/iwarp/benchmarks/internal/lab"
)

const bodySize = 1 << 10

func serveHTTP(l net.Listener) (stop func()) {
	body := bytes.Repeat([]byte("x"), bodySize)
	s := &http.Server{
		ReadHeaderTimeout: time.Minute,
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) }),
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	return func() { _ = s.Close(); <-done }
}

// requesting runs one request after the other.
type requesting struct {
	b     *bench
	hist  lab.Histogram
	do    func(context.Context) error
	after func()
}

func (r *requesting) close() { r.after() }

func (r *requesting) run(ctx context.Context, n uint64) (sample, error) {
	r.hist.Reset()
	m, err := r.b.meter()
	if err != nil {
		return sample{}, err
	}
	last := time.Now()
	for range n {
		if err := r.do(ctx); err != nil {
			return sample{}, err
		}
		now := time.Now()
		r.hist.Add(now.Sub(last))
		last = now
	}
	used, err := m.read()
	return sample{[]float64{float64(n) / used.took.Seconds(), float64(r.hist.Quantile(0.5)), float64(r.hist.Quantile(0.99)), float64(used.cpu) / float64(n)}, used.took}, err
}

func prepareHTTP(_ context.Context, b *bench, p lab.Path) (runner, error) {
	address := b.peer.Address(p, "http")
	t := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return p.Dial(ctx, address) }}
	get := func(ctx context.Context) error {
		q, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://peer/", nil)
		if err != nil {
			return err
		}
		a, err := t.RoundTrip(q)
		if err != nil {
			return err
		}
		defer a.Body.Close()
		n, err := io.Copy(io.Discard, a.Body)
		if err == nil && n != bodySize {
			err = fmt.Errorf("%d bytes of %d", n, bodySize)
		}
		return err
	}
	return &requesting{b: b, do: get, after: t.CloseIdleConnections}, nil
}
