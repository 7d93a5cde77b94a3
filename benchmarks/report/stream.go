package main

import (
	"context"

	"github.com/rdmanet/iwarp/benchmarks/internal/lab"
)

// A connection runs each slice on a new one. What the kernel has learned on an old one, such as its
// buffers' sizes, would depend on how much it was used, and the reference's is used most.
type connection struct {
	b      *bench
	client *lab.Client
	size   int
	slice  func(c *connection, n uint64) (sample, error)
	hist   lab.Histogram
}

// warmUp is the part of a slice that is run on a connection before it is measured.
const warmUp = 8

func stream(size int, slice func(c *connection, n uint64) (sample, error)) func(context.Context, *bench, lab.Path) (runner, error) {
	return func(ctx context.Context, b *bench, p lab.Path) (runner, error) {
		client, err := lab.Connect(ctx, p, b.peer)
		if err != nil {
			return nil, err
		}
		return &connection{b: b, client: client, size: size, slice: slice}, nil
	}
}

func (c *connection) close() { c.client.Close() }

func (c *connection) run(ctx context.Context, n uint64) (s sample, err error) {
	if err := c.client.Redial(ctx); err != nil {
		return sample{}, err
	}
	err = during(ctx, c.client.Conn(), func() error {
		if _, err := c.slice(c, n/warmUp+1); err != nil {
			return err
		}
		s, err = c.slice(c, n)
		return err
	})
	return s, err
}

func (c *connection) pingPong(n uint64) (sample, error) {
	c.hist.Reset()
	m, err := c.b.meter()
	if err != nil {
		return sample{}, err
	}
	if err := c.client.PingPong(c.size, n, &c.hist); err != nil {
		return sample{}, err
	}
	used, err := m.read()
	q := func(q float64) float64 { return float64(c.hist.Quantile(q)) }
	return sample{[]float64{q(0.5), q(0.99), q(0.999), float64(used.cpu) / float64(n), used.objects / float64(n)}, used.took}, err
}

func (c *connection) oneWay(n uint64) (sample, error) {
	used, err := c.send(n)
	bytes := float64(n) * float64(c.size)
	return sample{[]float64{bytes / used.took.Seconds(), float64(used.cpu) / bytes}, used.took}, err
}

func (c *connection) messages(n uint64) (sample, error) {
	used, err := c.send(n)
	return sample{[]float64{float64(n) / used.took.Seconds(), float64(used.cpu) / float64(n)}, used.took}, err
}

func (c *connection) send(n uint64) (cost, error) {
	m, err := c.b.meter()
	if err != nil {
		return cost{}, err
	}
	took, err := c.client.OneWay(c.size, n)
	if err != nil {
		return cost{}, err
	}
	used, err := m.read()
	used.took = took
	return used, err
}
