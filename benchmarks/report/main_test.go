package main

import (
	"bytes"
	"context"
	"io"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rdmanet/iwarp/benchmarks/internal/lab"
)

func TestMain(m *testing.M) {
	lab.MaybePeer()
	goleak.VerifyTestMain(m)
}

// TestReport measures far too shortly for the figures to mean anything, and checks that all of them
// are there.
func TestReport(t *testing.T) {
	for _, peer := range []string{"process", "self"} {
		t.Run(peer, func(t *testing.T) {
			var out bytes.Buffer
			require.NoError(t, command(t.Context(), []string{"-time", "1s", "-rounds", "1", "-peer", peer}, &out, io.Discard))
			for _, table := range []string{tableP50, tableP99, tableRate, tableSetUps} {
				require.Contains(t, out.String(), "| "+table+" |")
			}
			for _, p := range lab.Paths() {
				if p.Name != lab.TCP {
					require.Contains(t, out.String(), "| "+label(p.Name)+" |")
				}
			}
			require.NotContains(t, out.String(), "NaN")
			require.Contains(t, out.String(), "ping-pong 64B: at most 1.25: ")
		})
	}
}

func TestReportSelects(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, command(t.Context(), []string{"-time", "100ms", "-rounds", "1", "-paths", "crc=on", "-work", "^ping-pong 64B$"}, &out, io.Discard))
	require.Contains(t, out.String(), label(lab.SoftCRC))
	require.NotContains(t, out.String(), label(lab.TLS))
	require.NotContains(t, out.String(), tableRate)
}

func TestReportWrongUse(t *testing.T) {
	for _, args := range [][]string{{"-rounds", "0"}, {"-peer", "nobody"}, {"-paths", "("}, {"-work", "("}, {"-work", "sleep"}, {"-unknown"}} {
		require.Error(t, command(t.Context(), args, io.Discard, io.Discard), args)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.Error(t, command(ctx, []string{"-time", "1s"}, io.Discard, io.Discard))
}

func TestQuantile(t *testing.T) {
	v := []float64{4, 1, 3, 2, 5}
	for q, want := range map[float64]float64{0: 1, 0.25: 2, 0.5: 3, 0.6: 3.4, 1: 5} {
		require.InDelta(t, want, quantile(v, q), 1e-9)
	}
	require.Equal(t, []float64{4, 1, 3, 2, 5}, v, "the argument was changed")
	require.True(t, math.IsNaN(quantile(nil, 0.5)))
}

func TestFloors(t *testing.T) {
	most := floor{path: lab.SoftCRC, work: "w", table: tableP50, most: 1.25}
	least := floor{path: lab.SoftCRC, work: "w", table: tableP50, least: 0.5}
	for _, c := range []struct {
		name           string
		f              floor
		ratio, control float64
		want           string
	}{
		{"below the most", most, 1.2, 1, "held"},
		{"above the most", most, 1.3, 1, "missed"},
		{"above the most on a busy machine", most, 1.3, 1.1, "cannot tell"},
		{"below the most on a busy machine", most, 1.2, 1.1, "held"},
		{"above the least", least, 0.6, 1, "held"},
		{"below the least", least, 0.4, 1, "missed"},
		{"below the least on a busy machine", least, 0.4, 0.9, "cannot tell"},
	} {
		m := &matrix{ratios: map[key][]float64{
			{lab.SoftCRC, "w", tableP50}:  {c.ratio},
			{lab.TCPAgain, "w", tableP50}: {c.control},
		}}
		require.Equal(t, c.want, c.f.judge(m), c.name)
	}
	require.Empty(t, most.judge(&matrix{}), "not measured")
}
