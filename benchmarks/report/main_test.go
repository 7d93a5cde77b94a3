package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/perf/benchfmt"

	"github.com/rdmanet/iwarp/benchmarks/internal/lab"
	"github.com/rdmanet/iwarp/internal/testkit"
)

func TestMain(m *testing.M) {
	lab.MaybePeer(services()...)
	testkit.Run(m)
}

// TestQuick measures far too shortly for the figures to mean anything, and checks that all of them
// are there, in every form.
func TestQuick(t *testing.T) {
	folder := t.TempDir()
	var out bytes.Buffer
	require.NoError(t, command(t.Context(), []string{"-quick", "-out", folder}, &out, io.Discard))
	require.NotContains(t, out.String(), "NaN")
	require.NotContains(t, out.String(), "Inf")

	text := map[string]string{}
	for _, name := range []string{"report.md", "report.json", "report.html", "bench.txt"} {
		b, err := os.ReadFile(filepath.Join(folder, name))
		require.NoError(t, err)
		text[name] = string(b)
	}
	require.Equal(t, out.String(), text["report.md"])

	var r report
	require.NoError(t, json.Unmarshal([]byte(text["report.json"]), &r))
	require.Empty(t, r.Failures)
	measured := 0
	for _, w := range workloads(quickScale) {
		for _, m := range w.measures {
			require.Contains(t, out.String(), "| "+w.title+", "+m.title+" |")
			for _, p := range lab.Paths() {
				if !w.on(p.Name) {
					continue
				}
				x := r.find(w.name, m.unit, p.Name)
				require.NotNil(t, x, "%s, %s on %s", w.name, m.unit, p.Name)
				require.Len(t, x.Ratios, ratiosOf(p.Name))
				require.True(t, x.Value.there())
				measured++
			}
		}
	}
	require.Len(t, r.Results, measured)
	require.NotEmpty(t, r.Bars)

	require.Equal(t, 8, strings.Count(text["report.html"], "<svg"), "four charts, for light and for dark")
	require.NotContains(t, text["report.html"], "http-equiv")
	require.NotContains(t, text["report.html"], "src=")
	requireBenchstat(t, text["bench.txt"], measured)
}

func ratiosOf(path string) int {
	if path == lab.TCP {
		return 0
	}
	return 1
}

// requireBenchstat reads what benchstat would.
func requireBenchstat(t *testing.T, text string, measured int) {
	t.Helper()
	names := map[string]bool{}
	f := benchfmt.NewReader(strings.NewReader(text), "bench.txt")
	for f.Scan() {
		b, ok := f.Result().(*benchfmt.Result)
		if !ok {
			continue // a line that is no result is a *benchfmt.SyntaxError, or tells of a unit
		}
		require.NotEmpty(t, b.Values)
		names[string(b.Name)+" "+b.Values[0].Unit] = true
		_, parts := b.Name.Parts()
		for _, part := range parts {
			require.Contains(t, string(part), "=", string(b.Name))
		}
	}
	require.NoError(t, f.Err())
	require.Len(t, names, measured)
}

func TestSelects(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, command(t.Context(), []string{"-time", "200ms", "-rounds", "2", "-out", "", "-paths", "crc=on", "-work", "^PingPong/size=64B$"}, &out, io.Discard))
	require.Contains(t, out.String(), label(lab.SoftCRC))
	require.NotContains(t, out.String(), label(lab.TLS))
	require.NotContains(t, out.String(), "throughput")
}

func TestWrongUse(t *testing.T) {
	for _, args := range [][]string{
		{"-rounds", "0"}, {"-time", "-1s"}, {"-paths", "("}, {"-work", "("}, {"-work", "sleep"}, {"-unknown"}, {"README.md"},
		{"-listen", ":1", "-connect", ":1"}, {"-listen", "nowhere"}, {"-connect", "127.0.0.1"},
	} {
		require.Error(t, command(t.Context(), append(args, "-out", ""), io.Discard, io.Discard), args)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, command(ctx, []string{"-time", "1s", "-out", ""}, io.Discard, io.Discard), context.Canceled)
}

// TestInterrupted ends in the middle of a slice.
func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	log := writerFunc(func(p []byte) (int, error) { cancel(); return len(p), nil })
	require.ErrorIs(t, command(ctx, []string{"-time", "1h", "-out", ""}, io.Discard, log), context.Canceled)
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
