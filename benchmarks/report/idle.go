package main

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/rdmanet/iwarp/benchmarks/internal/lab"
)

// An idler opens connections that were used once and on which both ends wait in a Read.
type idler struct {
	b    *bench
	path lab.Path
}

func prepareIdle(_ context.Context, b *bench, p lab.Path) (runner, error) { return &idler{b, p}, nil }

func (i *idler) close() {}

func (i *idler) run(ctx context.Context, n uint64) (sample, error) {
	began := time.Now()
	if err := i.alone(ctx); err != nil {
		return sample{}, err
	}
	own, peer, err := i.b.usage(true)
	if err != nil {
		return sample{}, err
	}
	var readers sync.WaitGroup
	conns := make([]net.Conn, 0, n)
	defer func() {
		for _, c := range conns {
			_ = lab.Reset(c)
		}
		readers.Wait()
	}()
	var open slot
	path := open.watch(i.path)
	err = during(ctx, &open, func() error {
		for range n {
			c, err := lab.Open(ctx, path, i.b.peer.Address(path, ""))
			if err != nil {
				return err
			}
			conns = append(conns, c)
			readers.Go(func() {
				var b [1]byte
				_, _ = c.Read(b[:])
			})
		}
		return nil
	})
	if err != nil {
		return sample{}, err
	}
	ownAfter, peerAfter, err := i.b.usage(true)
	each := func(before, after [2]uint64) float64 {
		return (float64(after[0]) - float64(before[0]) + float64(after[1]) - float64(before[1])) / 2 / float64(n)
	}
	return sample{[]float64{
		each([2]uint64{own.Memory, peer.Memory}, [2]uint64{ownAfter.Memory, peerAfter.Memory}),
		each([2]uint64{own.Goroutines, peer.Goroutines}, [2]uint64{ownAfter.Goroutines, peerAfter.Goroutines}),
	}, time.Since(began)}, err
}

// alone waits until the peer has no connection but that of the control.
func (i *idler) alone(ctx context.Context) error {
	for {
		u, err := i.b.control.PeerUsage(false)
		if err != nil || u.Conns <= 1 {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(time.Millisecond):
		}
	}
}
