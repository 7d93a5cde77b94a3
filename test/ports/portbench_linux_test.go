package ports_test

import (
	"runtime"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp"
)

// BenchmarkReserve states what holding so many ports at a time costs for each: time to reserve and
// to release, and heap. The descriptor and the kernel's socket come on top.
func BenchmarkReserve(b *testing.B) {
	for _, n := range []int{1, 10000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			var limit unix.Rlimit
			require.NoError(b, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
			if limit.Cur < uint64(n)+100 {
				b.Skip("not enough descriptors")
			}
			ps := &iwarp.PortSpace{}
			list := make([]*iwarp.Reservation, n)
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			for b.Loop() {
				for i := range list {
					r, err := ps.Reserve(b.Context(), "tcp", "127.0.0.1:0")
					require.NoError(b, err)
					list[i] = r
				}
				b.StopTimer()
				if after.Mallocs == 0 {
					runtime.GC()
					runtime.ReadMemStats(&after)
				}
				b.StartTimer()
				for _, r := range list {
					require.NoError(b, r.Release())
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/port")
			if n > 1 {
				b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(n), "heap-B/port")
			}
			require.Empty(b, ps.Reservations())
		})
	}
}
