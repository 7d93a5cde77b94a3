// Package iwarpprom has a collector for Prometheus of what package iwarp does in the process:
//
//	prometheus.MustRegister(iwarpprom.NewCollector())
//
// The number of series is bounded, at about 200: labels are the path ("tcp", "soft", "rnic", "shm",
// or "other" for transports that are not of this module), the state, the reason in the words of
// iwarp.Reason, and the like, never an address. There are no bytes of plain TCP: the kernel counts
// those, and node_exporter has them.
//
// A dashboard for Grafana and alert rules are in the folder above.
package iwarpprom

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/metrics/internal/series"
)

const prefix = "iwarp_"

type collector struct {
	descs map[*series.Metric]*prometheus.Desc
	setup *prometheus.Desc
}

// NewCollector returns a collector of the process. It holds nothing that would have to be closed,
// and several may be in use, each in a registry of its own. A scrape takes some tens
// of microseconds for each open connection.
func NewCollector() prometheus.Collector {
	c := &collector{
		descs: make(map[*series.Metric]*prometheus.Desc),
		setup: prometheus.NewDesc(prefix+"setup_duration_seconds", series.SetupHelp, series.SetupLabels, nil),
	}
	for _, m := range series.All {
		c.descs[m] = prometheus.NewDesc(prefix+m.Prometheus, m.Help, m.Labels, nil)
	}
	return c
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		to <- d
	}
	to <- c.setup
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	s := iwarp.Snapshot()
	series.Values(&s, func(m *series.Metric, v float64, labels ...string) {
		kind := prometheus.GaugeValue
		if m.Counter {
			kind = prometheus.CounterValue
		}
		to <- prometheus.MustNewConstMetric(c.descs[m], kind, v, labels...)
	})
	for i := range s.SetupTimes {
		to <- c.histogram(&s.SetupTimes[i])
	}
}

// Limits of the buckets are every second one of those that are counted, from 16 µs to 4 s.
const (
	firstLimit = 4
	lastLimit  = 22
)

func (c *collector) histogram(t *iwarp.SetupTimes) prometheus.Metric {
	buckets := make(map[float64]uint64)
	var n uint64
	for i, count := range t.Counts {
		n += count
		if i >= firstLimit && i <= lastLimit && i%2 == 0 {
			buckets[series.SetupLimit(i).Seconds()] = n
		}
	}
	return prometheus.MustNewConstHistogram(c.setup, n, t.Sum.Seconds(), buckets, series.SetupValues(t)...)
}
