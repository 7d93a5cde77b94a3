package main

import (
	"fmt"
	"math"

	"github.com/rdmanet/iwarp/benchmarks/internal/lab"
)

// A bar is what a result must reach. How it is meant follows from the measure: where more is better
// it is the least, and else the most.
type bar struct {
	workload string
	unit     string
	path     string
	against  string // the path that it is held against, plain TCP if empty
	beyond   bool   // it is for how much more than plain TCP's the value is, and not for the ratio
	bar      float64
	stretch  float64 // 0 if there is none
}

var bars = []bar{
	{workload: "PingPong/size=64B", unit: p50, path: lab.SoftCRC, bar: 1.12, stretch: 1.05},
	{workload: "PingPong/size=4KiB", unit: p50, path: lab.SoftCRC, bar: 1.15, stretch: 1.08},
	{workload: "PingPong/size=64KiB", unit: p50, path: lab.SoftCRC, bar: 1.45, stretch: 1.25},
	{workload: "PingPong/size=64KiB", unit: p50, path: lab.Soft, bar: 1.22, stretch: 1.10},
	{workload: "PingPong/size=64B", unit: p99, path: lab.SoftCRC, bar: 1.3, stretch: 1.1},
	{workload: "PingPong/size=4KiB", unit: p99, path: lab.SoftCRC, bar: 1.3, stretch: 1.1},
	{workload: "PingPong/size=64KiB", unit: p99, path: lab.SoftCRC, bar: 1.3, stretch: 1.1},
	{workload: "PingPong/size=64B", unit: allocs, path: lab.SoftCRC, beyond: true, bar: 0.05},
	{workload: "OneWay/size=4KiB", unit: rate, path: lab.SoftCRC, bar: 0.75, stretch: 1},
	{workload: "OneWay/size=64KiB", unit: rate, path: lab.SoftCRC, bar: 0.64, stretch: 0.75},
	{workload: "OneWay/size=1MiB", unit: rate, path: lab.SoftCRC, bar: 0.64, stretch: 0.75},
	{workload: "OneWay/size=64KiB", unit: rate, path: lab.Soft, bar: 0.9, stretch: 0.97},
	{workload: "OneWay/size=1MiB", unit: rate, path: lab.Soft, bar: 0.9, stretch: 0.97},
	{workload: "OneWay/size=64KiB", unit: cpuByte, path: lab.SoftCRC, bar: 1.55, stretch: 1.35},
	{workload: "OneWay/size=1MiB", unit: cpuByte, path: lab.SoftCRC, bar: 1.55, stretch: 1.35},
	{workload: "OneWay/size=64KiB", unit: cpuByte, path: lab.Soft, bar: 1.15, stretch: 1.05},
	{workload: "OneWay/size=1MiB", unit: cpuByte, path: lab.Soft, bar: 1.15, stretch: 1.05},
	{workload: "OneWay/size=64KiB", unit: rate, path: lab.SoftCRC, against: lab.TLS, bar: 2.5, stretch: 3.5},
	{workload: "OneWay/size=1MiB", unit: rate, path: lab.SoftCRC, against: lab.TLS, bar: 2.5, stretch: 3.5},
	{workload: "Messages/size=64B", unit: messages, path: lab.SoftCRC, bar: 1, stretch: 2},
	{workload: "Segments/size=64KiB", unit: rate, path: lab.SoftCRC1460, bar: 0.42, stretch: 0.55},
	{workload: "Segments/size=64KiB", unit: rate, path: lab.Soft1460, bar: 0.55, stretch: 0.7},
	{workload: "SetUp/at-once=1", unit: setUps, path: lab.SoftCRC, bar: 0.72, stretch: 0.83},
	{workload: "SetUp/at-once=16", unit: setUps, path: lab.SoftCRC, bar: 0.72, stretch: 0.83},
	{workload: "Idle/conns=10000", unit: idleMemory, path: lab.SoftCRC, beyond: true, bar: 1536, stretch: 819},
	{workload: "Idle/conns=10000", unit: goroutines, path: lab.SoftCRC, beyond: true, bar: 0.01},
	{workload: "Busy/conns=2000", unit: operations, path: lab.SoftCRC, bar: 0.8, stretch: 0.95},
	{workload: "GRPCUnary/size=64B", unit: operations, path: lab.SoftCRC, bar: 0.93, stretch: 0.98},
	{workload: "GRPCStream/size=64KiB", unit: rate, path: lab.SoftCRC, bar: 0.82, stretch: 0.95},

	{workload: "PingPong/size=64B", unit: p50, path: lab.Shm, bar: 0.55, stretch: 0.42},
	{workload: "PingPong/size=4KiB", unit: p50, path: lab.Shm, bar: 0.6, stretch: 0.45},
	{workload: "PingPong/size=64KiB", unit: p50, path: lab.Shm, bar: 0.6, stretch: 0.45},
	{workload: "PingPong/size=64B", unit: p50, path: lab.ShmPoll, bar: 0.1, stretch: 0.03},
	{workload: "PingPong/size=64B", unit: p50, path: lab.Shm, against: lab.Unix, bar: 1},
	{workload: "PingPong/size=4KiB", unit: p50, path: lab.Shm, against: lab.Unix, bar: 1},
	{workload: "PingPong/size=64KiB", unit: p50, path: lab.Shm, against: lab.Unix, bar: 1},
	{workload: "OneWay/size=4KiB", unit: rate, path: lab.Shm, bar: 4, stretch: 8},
	{workload: "OneWay/size=64KiB", unit: rate, path: lab.Shm, bar: 1.5, stretch: 3},
	{workload: "OneWay/size=1MiB", unit: rate, path: lab.Shm, bar: 1.5, stretch: 3},
	{workload: "OneWay/size=4KiB", unit: rate, path: lab.Shm, against: lab.Unix, bar: 1},
	{workload: "OneWay/size=64KiB", unit: rate, path: lab.Shm, against: lab.Unix, bar: 1},
	{workload: "OneWay/size=1MiB", unit: rate, path: lab.Shm, against: lab.Unix, bar: 1},
	{workload: "OneWay/size=64KiB", unit: cpuByte, path: lab.Shm, bar: 0.7, stretch: 0.45},
	{workload: "OneWay/size=1MiB", unit: cpuByte, path: lab.Shm, bar: 0.7, stretch: 0.45},
	{workload: "SetUp/at-once=1", unit: setUps, path: lab.Shm, bar: 0.5, stretch: 0.8},
	{workload: "Idle/conns=2000", unit: idleMemory, path: lab.Shm, beyond: true, bar: 12 << 10, stretch: 4 << 10},
	{workload: "Idle/conns=2000", unit: goroutines, path: lab.Shm, beyond: true, bar: 0.01},
	{workload: "HTTP/size=1KiB", unit: operations, path: lab.Shm, bar: 1.1, stretch: 1.3},
	{workload: "GRPCUnary/size=64B", unit: operations, path: lab.Shm, bar: 1.05, stretch: 1.25},
}

// A verdict is what became of a bar.
type verdict struct {
	What    string `json:"what"`
	Bar     number `json:"bar"`
	Stretch number `json:"stretch"` // null if there is none
	Least   bool   `json:"least"`   // the bar is the least that is asked for, and else the most
	Value   number `json:"value"`
	Low     number `json:"low"`
	High    number `json:"high"`
	Control number `json:"control"`
	Verdict string `json:"verdict"`

	unit string
}

const (
	reachedStretch = "stretch"
	reached        = "bar"
	missed         = "**missed**"
	notUsable      = "not usable"
)

// judge returns what became of the bars that were measured.
func (r *report) judge(bars []bar) (vs []verdict) {
	for _, b := range bars {
		x := r.find(b.workload, b.unit, b.path)
		if x == nil || !x.Value.there() {
			continue
		}
		v := verdict{Bar: number(b.bar), Stretch: number(b.stretch), Least: x.More, Control: x.Control, unit: "ratio"}
		v.What = fmt.Sprintf("%s, %s: %s", x.title, x.measure, label(b.path))
		if b.stretch == 0 {
			v.Stretch = number(math.NaN())
		}
		switch {
		case b.beyond:
			v.unit = b.unit
			v.What += ", beyond plain TCP"
			v.Value = x.Value - x.TCP
			v.Low, v.High = number(math.NaN()), number(math.NaN())
		case b.against != "":
			o := r.find(b.workload, b.unit, b.against)
			if o == nil {
				continue
			}
			v.What += " against " + label(b.against)
			v.Value, v.Low, v.High = summarize(quotients(x.Ratios, o.Ratios))
		default:
			v.Value, v.Low, v.High = x.Ratio, x.Low, x.High
		}
		v.Verdict = v.judge(x.Usable)
		vs = append(vs, v)
	}
	return vs
}

func (v verdict) judge(usable bool) string {
	reaches := func(limit number) bool {
		return v.Least && v.Value >= limit || !v.Least && v.Value <= limit
	}
	switch {
	case !usable || !v.Value.there():
		return notUsable
	case reaches(v.Stretch):
		return reachedStretch
	case reaches(v.Bar):
		return reached
	}
	return missed
}

// quotients divides what was measured in the same rounds.
func quotients(a, b []number) (q []float64) {
	for i := range min(len(a), len(b)) {
		q = append(q, float64(a[i]/b[i]))
	}
	return q
}
