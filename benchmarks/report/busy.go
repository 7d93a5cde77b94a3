package main

import (
	"context"
	"errors"

	"github.com/rdmanet/iwarp/benchmarks/internal/lab"
)

const busySize = 64

// A crowd is many connections that go on at once.
type crowd struct {
	b       *bench
	clients []*lab.Client
}

func prepareBusy(ctx context.Context, b *bench, p lab.Path, n int) (runner, error) {
	c := &crowd{b: b, clients: make([]*lab.Client, 0, n)}
	for range n {
		client, err := lab.Connect(ctx, p, b.peer)
		if err != nil {
			c.close()
			return nil, err
		}
		c.clients = append(c.clients, client)
		if err := client.StartEcho(busySize, 0); err != nil {
			c.close()
			return nil, err
		}
	}
	return c, nil
}

// Close closes every connection.
func (c *crowd) Close() error {
	var errs []error
	for _, client := range c.clients {
		errs = append(errs, lab.Reset(client.Conn()))
	}
	return errors.Join(errs...)
}

func (c *crowd) close() { _ = c.Close() }

func (c *crowd) run(ctx context.Context, n uint64) (sample, error) {
	m, err := c.b.meter()
	if err != nil {
		return sample{}, err
	}
	err = during(ctx, c, func() error {
		return share(n, len(c.clients), func(i int, next func() bool) error {
			for next() {
				if err := c.clients[i].RoundTrip(busySize); err != nil {
					return err
				}
			}
			return nil
		})
	})
	if err != nil {
		return sample{}, err
	}
	used, err := m.read()
	return sample{[]float64{float64(n) / used.took.Seconds(), float64(used.cpu) / float64(n)}, used.took}, err
}
