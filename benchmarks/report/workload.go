package main

import (
	"context"
	"time"

	"github.com/rdmanet/iwarp/benchmarks/internal/lab"
)

// A workload is what one slice does.
type workload struct {
	kind     string // "ping-pong", "one-way" or "set-up"
	size     int    // bytes of a message, 0 for set-up
	measures []measure
	run      func(ctx context.Context, e *end, n uint64) (sample, error)
}

func (w workload) name() string {
	if w.size == 0 {
		return w.kind
	}
	return w.kind + " " + lab.FormatSize(w.size)
}

// A measure is one figure that a slice yields.
type measure struct {
	table string
	unit  string
	scale float64 // of the value as it is printed
}

// A sample holds the figures of one slice in the order of the workload's measures, and how long the
// slice took.
type sample struct {
	values  []float64
	elapsed time.Duration
}

// An end is the client's end of one path.
type end struct {
	path   lab.Path
	peer   *lab.Peer
	client *lab.Client
	hist   lab.Histogram
}

// The tables, in the order of their print.
const (
	tableP50    = "Round trip, p50"
	tableP99    = "Round trip, p99"
	tableRate   = "One-way throughput"
	tableCPU    = "Processor time per byte, both ends"
	tableSetUps = "Connections per second, one at a time"
)

func workloads() []workload {
	var ws []workload
	for _, size := range lab.PingPongSizes {
		ws = append(ws, workload{"ping-pong", size, []measure{{tableP50, "µs", 1e6}, {tableP99, "µs", 1e6}}, pingPong(size)})
	}
	for _, size := range lab.OneWaySizes {
		ws = append(ws, workload{"one-way", size, []measure{{tableRate, "MB/s", 1e-6}, {tableCPU, "ns", 1e9}}, oneWay(size)})
	}
	return append(ws, workload{"set-up", 0, []measure{{tableSetUps, "/s", 1}}, setUp})
}

func pingPong(size int) func(context.Context, *end, uint64) (sample, error) {
	return func(_ context.Context, e *end, n uint64) (sample, error) {
		e.hist.Reset()
		start := time.Now()
		err := e.client.PingPong(size, n, &e.hist)
		return sample{[]float64{e.hist.Quantile(0.5).Seconds(), e.hist.Quantile(0.99).Seconds()}, time.Since(start)}, err
	}
}

func oneWay(size int) func(context.Context, *end, uint64) (sample, error) {
	return func(_ context.Context, e *end, n uint64) (sample, error) {
		before, err := e.cpu()
		if err != nil {
			return sample{}, err
		}
		took, err := e.client.OneWay(size, n)
		if err != nil {
			return sample{}, err
		}
		after, err := e.cpu()
		bytes := float64(size) * float64(n)
		return sample{[]float64{bytes / took.Seconds(), (after - before).Seconds() / bytes}, took}, err
	}
}

// cpu returns the processor time of both ends. When they are one process it counts twice, which no
// ratio shows.
func (e *end) cpu() (time.Duration, error) {
	theirs, err := e.client.PeerCPUTime()
	return theirs + lab.CPUTime(), err
}

func setUp(ctx context.Context, e *end, n uint64) (sample, error) {
	start := time.Now()
	for range n {
		if err := lab.SetUp(ctx, e.path, e.peer.Addresses[e.path.Name]); err != nil {
			return sample{}, err
		}
	}
	took := time.Since(start)
	return sample{[]float64{float64(n) / took.Seconds()}, took}, nil
}
