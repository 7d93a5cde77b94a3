// Package iwarpotel has OpenTelemetry instruments of what package iwarp does in the process:
//
//	registration, err := iwarpotel.Register(otel.GetMeterProvider())
//
// They are those of package iwarpprom, and as few: attributes are iwarp.path ("tcp", "soft",
// "rnic", "shm", or "other" for transports that are not of this module), iwarp.state, iwarp.reason
// in the words of iwarp.Reason, and the like, never an address. OpenTelemetry has no histogram that
// is filled by a callback, so of the times of set-ups there are the sum and the number.
package iwarpotel

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/rdmanet/iwarp"
	"github.com/rdmanet/iwarp/metrics/internal/series"
)

const (
	scope  = "github.com/rdmanet/iwarp/metrics/otel"
	prefix = "iwarp."
)

// instruments are those of a meter.
type instruments struct {
	all        map[*series.Metric]metric.Float64Observable
	setupTime  metric.Float64Observable
	setupTimed metric.Float64Observable
}

// Register makes the instruments with a meter of the provider, and has them filled whenever it
// collects, until Unregister is called on what Register returns. A collection takes some tens of
// microseconds for each open connection. Register must not be called twice for one provider
// without Unregister in between, or the values may double.
func Register(p metric.MeterProvider) (metric.Registration, error) {
	m := p.Meter(scope)
	in := instruments{all: make(map[*series.Metric]metric.Float64Observable)}
	var list []metric.Observable
	var failed error
	instrument := func(of *series.Metric) metric.Float64Observable {
		o, err := observable(m, of)
		failed = errors.Join(failed, err)
		list = append(list, o)
		return o
	}
	for _, of := range series.All {
		in.all[of] = instrument(of)
	}
	in.setupTime = instrument(&series.Metric{OpenTelemetry: "setup.time", Unit: "s", Counter: true, Help: series.SetupHelp})
	in.setupTimed = instrument(&series.Metric{OpenTelemetry: "setup.timed", Unit: "{connection}", Counter: true, Help: "Set-ups that setup.time is the sum of."})
	if failed != nil {
		return nil, failed
	}
	return m.RegisterCallback(in.observe, list...)
}

func observable(m metric.Meter, of *series.Metric) (metric.Float64Observable, error) {
	name, help, unit := prefix+of.OpenTelemetry, metric.WithDescription(of.Help), metric.WithUnit(of.Unit)
	if of.Counter {
		return m.Float64ObservableCounter(name, help, unit)
	}
	return m.Float64ObservableUpDownCounter(name, help, unit)
}

func (in *instruments) observe(_ context.Context, o metric.Observer) error {
	s := iwarp.Snapshot()
	series.Values(&s, func(m *series.Metric, v float64, values ...string) {
		o.ObserveFloat64(in.all[m], v, attributes(m.Labels, values))
	})
	for i := range s.SetupTimes {
		t := &s.SetupTimes[i]
		var n uint64
		for _, count := range t.Counts {
			n += count
		}
		with := attributes(series.SetupLabels, series.SetupValues(t))
		o.ObserveFloat64(in.setupTime, t.Sum.Seconds(), with)
		o.ObserveFloat64(in.setupTimed, float64(n), with)
	}
	return nil
}

func attributes(labels, values []string) metric.ObserveOption {
	list := make([]attribute.KeyValue, len(labels))
	for i, label := range labels {
		list[i] = attribute.String(keyOf(label, values[i]), values[i])
	}
	return metric.WithAttributes(list...)
}

// keyOf is the key of a label: that of the semantic conventions where they have one.
func keyOf(label, value string) string {
	if label == "direction" && (value == "receive" || value == "transmit") {
		return "network.io.direction"
	}
	return prefix + label
}
