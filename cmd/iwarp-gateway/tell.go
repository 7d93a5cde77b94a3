package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/debug"
)

// metrics are what Prometheus is told. The label mapping is the address of the listener.
type metrics struct {
	registry *prometheus.Registry
	open     *prometheus.GaugeVec
	carried  *prometheus.CounterVec
	bytes    *prometheus.CounterVec
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		open: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "iwarp_gateway_connections", Help: "Connections of clients at present.",
		}, []string{"mapping"}),
		carried: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "iwarp_gateway_connections_total", Help: "Connections of clients that are over.",
		}, []string{"mapping", "client_path", "target_path", "result"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "iwarp_gateway_carried_bytes_total", Help: "Bytes carried by connections that are over.",
		}, []string{"mapping", "to"}),
	}
	m.registry.MustRegister(m.open, m.carried, m.bytes)
	return m
}

// tell tells of a connection that is over.
func (g *gateway) tell(c *carried, err error, took time.Duration) {
	result, level := "ok", slog.LevelInfo
	if err != nil {
		result, level = "failed", slog.LevelWarn
	}
	in, _ := iwarp.Describe(c.clientBelow)
	var out iwarp.Info
	if c.targetBelow != nil {
		out, _ = iwarp.Describe(c.targetBelow)
	}
	mapping := c.m.Listen.addr
	g.metrics.carried.WithLabelValues(mapping, in.Transport, out.Transport, result).Inc()
	g.metrics.bytes.WithLabelValues(mapping, "target").Add(float64(c.sent))
	g.metrics.bytes.WithLabelValues(mapping, "client").Add(float64(c.gotten))
	attrs := []slog.Attr{
		slog.String("client", c.from.String()), slog.String("target", c.m.Target.addr),
		slog.String("client_path", in.Transport), slog.String("target_path", out.Transport),
		slog.Int64("to_target", c.sent), slog.Int64("to_client", c.gotten), slog.Duration("took", took),
	}
	if out.Reason != iwarp.ReasonNone {
		attrs = append(attrs, slog.String("reason", out.Reason.String()))
	}
	if err != nil {
		attrs = append(attrs, slog.Any("error", err))
	}
	g.log.LogAttrs(context.Background(), level, "carried", attrs...)
}

// isOver reports whether a connection had ended before it was told to.
func isOver(err error) bool {
	return errors.Is(err, syscall.ENOTCONN) || errors.Is(err, net.ErrClosed)
}

// serveAdmin serves what operators ask for, if there is an address for that.
func (g *gateway) serveAdmin() (stop func()) {
	if g.admin == nil {
		return func() {}
	}
	g.log.Info("metrics, health and debug page", "address", g.admin.Addr().String())
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(g.metrics.registry, promhttp.HandlerOpts{}))
	mux.Handle("/debug/iwarp", debug.Handler())
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		g.mu.Lock()
		draining := g.draining
		g.mu.Unlock()
		if draining {
			http.Error(w, "draining", http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ok\n"))
	})
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: greetingTime}
	go func() { _ = srv.Serve(g.admin) }()
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), greetingTime)
		defer cancel()
		_ = srv.Shutdown(ctx)
		_ = srv.Close()
	}
}

// leaveAdmin leaves further questions to another process that has the socket, too.
func (g *gateway) leaveAdmin() {
	if g.admin == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), greetingTime)
	defer cancel()
	_ = g.admin.Drain(ctx)
}
