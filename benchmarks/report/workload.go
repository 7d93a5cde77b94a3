package main

import (
	"context"
	"fmt"
	"time"

	"github.com/rdmanet/iwarp/benchmarks/internal/lab"
)

// A workload is what a slice does, on one path.
type workload struct {
	name     string // with key=value pairs, as benchstat reads them
	title    string
	paths    []string // besides the reference and the control
	measures []measure

	weight  int    // its share of the time, where that is not 1
	fixed   uint64 // operations of each slice; 0 means as many as fill it
	rounds  int    // at most; 0 means no limit
	steady  bool   // what is measured does not drift: one slice of the reference a round will do
	prepare func(ctx context.Context, b *bench, p lab.Path) (runner, error)
}

// A runner runs the slices of a workload on one path. Its run ends early if its Context does.
type runner interface {
	run(ctx context.Context, n uint64) (sample, error)
	close()
}

// A sample holds the figures of one slice in the order of the workload's measures, and how long the
// slice took.
type sample struct {
	values  []float64
	elapsed time.Duration
}

// A measure is one figure that a slice yields.
type measure struct {
	unit  string // as benchstat reads it
	title string
	more  bool // more is better
	plain bool // given as it is, and not as a ratio to plain TCP
	exact bool // plain, and no load of the machine changes it: it has no control
	brief bool // a row of the README
}

// The units of the measures.
const (
	p50        = "p50-ns"
	p99        = "p99-ns"
	p999       = "p99.9-ns"
	rate       = "B/s"
	messages   = "msg/s"
	operations = "op/s"
	setUps     = "conn/s"
	cpuByte    = "cpu-ns/B"
	cpuOp      = "cpu-ns/op"
	allocs     = "allocs/op"
	idleMemory = "B/end"
	goroutines = "goroutines/end"
)

var (
	oneHost  = []string{lab.Shm, lab.Unix}
	everyWay = append([]string{lab.Fallback, lab.SoftCRC, lab.Soft, lab.TLS}, oneHost...)
	iwarpWay = append([]string{lab.SoftCRC, lab.Soft}, oneHost...)
)

// A scale says how large the larger workloads are.
type scale struct {
	idle [2]int // connections over the network, and within the host, where each may take two descriptors
	busy []int  // connections
}

var (
	fullScale  = scale{idle: [2]int{10_000, 2000}, busy: []int{1, 16, 256, 2000}}
	quickScale = scale{idle: [2]int{100, 50}, busy: []int{1, 16, 64, 128}}
)

func workloads(s scale) []workload {
	ws := streams()
	for _, n := range []int{1, 16} {
		ws = append(ws, workload{name: fmt.Sprintf("SetUp/at-once=%d", n), title: "connections set up, " + atOnce(n), paths: everyWay,
			measures: []measure{{unit: setUps, title: "rate", more: true, brief: true}, {unit: cpuOp, title: "processor time of each"}, {unit: allocs, title: "objects allocated", plain: true, exact: true}},
			prepare:  func(_ context.Context, b *bench, p lab.Path) (runner, error) { return &dialer{b, p, n}, nil }})
	}
	for i, paths := range [][]string{{lab.SoftCRC, lab.Soft}, oneHost} {
		n := s.idle[i]
		ws = append(ws, workload{name: fmt.Sprintf("Idle/conns=%d", n), title: counted(n) + " idle connections", paths: paths,
			measures: []measure{{unit: idleMemory, title: "memory of an end", plain: true, brief: true}, {unit: goroutines, title: "goroutines of an end", plain: true, exact: true}},
			fixed:    uint64(n), rounds: 2, steady: true, prepare: prepareIdle})
	}
	for i, n := range s.busy {
		ws = append(ws, workload{name: fmt.Sprintf("Busy/conns=%d", n), title: "64 B there and back on " + counted(n) + " at once", paths: iwarpWay, weight: 1 + n/1000,
			measures: []measure{{unit: operations, title: "rate", more: true, brief: i == len(s.busy)-1}, {unit: cpuOp, title: "processor time of each"}},
			prepare:  func(ctx context.Context, b *bench, p lab.Path) (runner, error) { return prepareBusy(ctx, b, p, n) }})
	}
	return append(ws, requests()...)
}

// share returns the part of a time that is for w, one of ws.
func (w *workload) share(of time.Duration, ws []workload) time.Duration {
	sum := 0
	for i := range ws {
		sum += max(ws[i].weight, 1)
	}
	return of * time.Duration(max(w.weight, 1)) / time.Duration(sum)
}

// streams are the workloads on one connection.
func streams() (ws []workload) {
	for _, size := range []int{64, 4 << 10, 64 << 10} {
		paths := everyWay
		if size == 64 {
			paths = append(append([]string{}, everyWay...), lab.SoftPoll, lab.ShmPoll)
		}
		ws = append(ws, workload{name: "PingPong/size=" + lab.FormatSize(size), title: inWords(size) + " there and back", paths: paths,
			measures: []measure{{unit: p50, title: "p50", brief: true}, {unit: p99, title: "p99", brief: size != 4<<10}, {unit: p999, title: "p99.9"},
				{unit: cpuOp, title: "processor time"}, {unit: allocs, title: "objects allocated", plain: true, exact: true}},
			prepare: stream(size, (*connection).pingPong)})
	}
	for _, size := range []int{4 << 10, 64 << 10, 1 << 20} {
		ws = append(ws, workload{name: "OneWay/size=" + lab.FormatSize(size), title: "writes of " + inWords(size), paths: everyWay,
			measures: []measure{{unit: rate, title: "throughput", more: true, brief: true}, {unit: cpuByte, title: "processor time per byte", brief: size != 4<<10}},
			prepare:  stream(size, (*connection).oneWay)})
	}
	return append(ws,
		workload{name: "Messages/size=64B", title: "writes of 64 B, none waited for", paths: everyWay,
			measures: []measure{{unit: messages, title: "rate", more: true, brief: true}, {unit: cpuOp, title: "processor time of each"}},
			prepare:  stream(64, (*connection).messages)},
		workload{name: "Segments/size=64KiB", title: "writes of 64 KiB in FPDUs of 1,460 B", paths: []string{lab.SoftCRC1460, lab.Soft1460},
			measures: []measure{{unit: rate, title: "throughput", more: true, brief: true}, {unit: cpuByte, title: "processor time per byte"}},
			prepare:  stream(64<<10, (*connection).oneWay)})
}

// requests are the workloads of protocols above the stream.
func requests() []workload {
	perRequest := []measure{{unit: operations, title: "rate", more: true, brief: true}, {unit: p50, title: "p50"}, {unit: p99, title: "p99"}, {unit: cpuOp, title: "processor time of each"}}
	return []workload{
		{name: "HTTP/size=1KiB", title: "HTTP/1.1 GET of 1 KiB, one connection", paths: iwarpWay, measures: perRequest, prepare: prepareHTTP},
		{name: "GRPCUnary/size=64B", title: "gRPC, unary, 64 B", paths: iwarpWay, measures: perRequest, prepare: prepareUnary},
		{name: "GRPCStream/size=64KiB", title: "gRPC, a stream of 64 KiB messages", paths: iwarpWay,
			measures: []measure{{unit: rate, title: "throughput", more: true, brief: true}, {unit: cpuByte, title: "processor time per byte"}}, prepare: prepareStream},
	}
}

func atOnce(n int) string {
	if n == 1 {
		return "one at a time"
	}
	return fmt.Sprint(n, " at once")
}

func counted(n int) string {
	if n == 1 {
		return "1 connection"
	}
	if n >= 1000 {
		return fmt.Sprintf("%d,%03d", n/1000, n%1000)
	}
	return fmt.Sprint(n)
}
