package lab

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestHistogramQuantiles(t *testing.T) {
	for _, unit := range []time.Duration{1, time.Microsecond, time.Millisecond, time.Minute} {
		var h Histogram
		for i := range 1000 {
			h.Add(time.Duration(i+1) * unit)
		}
		require.EqualValues(t, 1000, h.Count())
		for _, q := range []float64{0.001, 0.01, 0.5, 0.9, 0.99, 1} {
			want := q * 1000 * float64(unit)
			require.InEpsilon(t, want, float64(h.Quantile(q)), 1.0/64, "unit %v, quantile %v", unit, q)
		}
	}
}

func TestHistogramEdges(t *testing.T) {
	var h Histogram
	require.Zero(t, h.Quantile(0.5), "an empty histogram has no quantile")
	h.Add(-1)
	require.Zero(t, h.Quantile(1))
	h.Add(math.MaxInt64)
	require.InEpsilon(t, float64(math.MaxInt64), float64(h.Quantile(1)), 1.0/64)
	h.Reset()
	require.Zero(t, h.Count())
	require.Zero(t, testing.AllocsPerRun(100, func() { h.Add(time.Second) }))
}
