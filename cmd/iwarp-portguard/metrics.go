package main

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics are what Prometheus gets.
type metrics struct {
	registry  *prometheus.Registry
	held, ids prometheus.Gauge
	unheld    *prometheus.GaugeVec
	conflicts prometheus.Counter
	failures  prometheus.Counter
	looks     prometheus.Histogram
	counted   uint64 // of conflicts
}

func newMetrics(interval time.Duration) *metrics {
	name := func(s string) string { return "iwarp_portguard_" + s }
	m := &metrics{
		registry: prometheus.NewRegistry(),
		held:     prometheus.NewGauge(prometheus.GaugeOpts{Name: name("held_ports"), Help: "Sockets that hold a port for RDMA programs."}),
		ids:      prometheus.NewGauge(prometheus.GaugeOpts{Name: name("cm_ids"), Help: "Ids of rdma_cm that have a port, on devices with ports of their own."}),
		unheld: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: name("unheld_ports"), Help: "Ports of RDMA programs that are not held, by reason; conflict is that another program has it.",
		}, []string{"reason"}),
		conflicts: prometheus.NewCounter(prometheus.CounterOpts{Name: name("conflicts_total"), Help: "Ports of RDMA programs that another program had."}),
		failures:  prometheus.NewCounter(prometheus.CounterOpts{Name: name("look_failures_total"), Help: "Looks at which the kernel did not answer."}),
		looks: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: name("look_duration_seconds"), Help: "How long a look at all ids takes.", Buckets: prometheus.ExponentialBuckets(1e-4, 4, 8),
		}),
	}
	every := prometheus.NewGauge(prometheus.GaugeOpts{Name: name("interval_seconds"), Help: "Time between two looks, in which a port can be lost."})
	every.Set(interval.Seconds())
	for _, r := range reasons {
		m.unheld.WithLabelValues(string(r))
	}
	m.registry.MustRegister(m.held, m.ids, m.unheld, m.conflicts, m.failures, m.looks, every,
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// record adds a look.
func (m *metrics) record(g *guard, took time.Duration, err error) {
	m.looks.Observe(took.Seconds())
	if err != nil {
		m.failures.Inc()
		return
	}
	m.held.Set(float64(g.held))
	m.ids.Set(float64(g.seen))
	m.conflicts.Add(float64(g.conflicts - m.counted))
	m.counted = g.conflicts
	n := make(map[reason]int)
	for _, t := range g.troubles {
		n[t.reason]++
	}
	for _, r := range reasons {
		m.unheld.WithLabelValues(string(r)).Set(float64(n[r]))
	}
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
}
