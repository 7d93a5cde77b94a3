package benchmarks

import (
	"context"
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/rdmanet/iwarp/benchmarks/internal/lab"
	"github.com/rdmanet/iwarp/internal/testkit/leak"
	"github.com/stretchr/testify/require"
)

var twoProcesses = flag.Bool("two-processes", false, "run the peer of the benchmarks in a process of its own")

func TestMain(m *testing.M) {
	lab.MaybePeer()
	flag.Parse()
	leak.Main(m)
}

func startPeer(tb testing.TB, paths ...lab.Path) *lab.Peer {
	tb.Helper()
	var (
		p   *lab.Peer
		err error
	)
	ctx := context.WithoutCancel(tb.Context()) // which ends before the cleanup does
	if *twoProcesses {
		p, err = lab.StartProcess(ctx)
	} else {
		p, err = lab.StartLocal(ctx, paths)
	}
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, p.Close()) })
	return p
}

func connect(tb testing.TB, path lab.Path) *lab.Client {
	tb.Helper()
	c, err := lab.Connect(tb.Context(), path, startPeer(tb, path))
	require.NoError(tb, err)
	tb.Cleanup(func() { c.Close() })
	return c
}

func perSize(b *testing.B, sizes []int, f func(b *testing.B, path lab.Path, size int)) {
	for _, path := range lab.Paths() {
		for _, size := range sizes {
			b.Run(fmt.Sprintf("%s/size=%s", path.Name, lab.FormatSize(size)), func(b *testing.B) { f(b, path, size) })
		}
	}
}

// BenchmarkPingPong reports quantiles of the time of a round trip. A mean would mostly show the
// scheduler's bad moments.
func BenchmarkPingPong(b *testing.B) {
	perSize(b, lab.PingPongSizes, func(b *testing.B, path lab.Path, size int) {
		c := connect(b, path)
		require.NoError(b, c.StartEcho(size, 0))
		require.NoError(b, c.RoundTrip(size))
		var h lab.Histogram
		b.ReportAllocs()
		last := time.Now()
		for b.Loop() {
			if err := c.RoundTrip(size); err != nil {
				b.Fatal(err)
			}
			now := time.Now()
			h.Add(now.Sub(last))
			last = now
		}
		b.ReportMetric(float64(h.Quantile(0.5)), "p50-ns")
		b.ReportMetric(float64(h.Quantile(0.99)), "p99-ns")
		b.ReportMetric(0, "ns/op")
	})
}

func BenchmarkOneWay(b *testing.B) {
	perSize(b, lab.OneWaySizes, func(b *testing.B, path lab.Path, size int) {
		c := connect(b, path)
		require.NoError(b, c.StartSend())
		b.SetBytes(int64(size))
		b.ReportAllocs()
		sent := uint64(0)
		for b.Loop() {
			if err := c.Send(size); err != nil {
				b.Fatal(err)
			}
			sent += uint64(size)
		}
		got, err := c.FinishSend()
		require.NoError(b, err)
		require.Equal(b, sent, got)
	})
}

// BenchmarkSetUp dials, sends a byte there and back, and resets the connection.
func BenchmarkSetUp(b *testing.B) {
	for _, path := range lab.Paths() {
		b.Run(path.Name, func(b *testing.B) {
			peer := startPeer(b, path)
			var h lab.Histogram
			b.ReportAllocs()
			for b.Loop() {
				start := time.Now()
				if err := lab.SetUp(b.Context(), path, peer.Address(path, "")); err != nil {
					b.Fatal(err)
				}
				h.Add(time.Since(start))
			}
			b.ReportMetric(float64(h.Quantile(0.5)), "p50-ns")
			b.ReportMetric(float64(h.Quantile(0.99)), "p99-ns")
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(h.Count())/b.Elapsed().Seconds(), "conn/s")
		})
	}
}
