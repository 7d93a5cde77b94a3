package benchmarks

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/rdmanet/iwarp/benchmarks/internal/lab"
	"github.com/stretchr/testify/require"
)

// TestReadWriteDoNotAllocate counts both ends: the peer is in this process.
func TestReadWriteDoNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes sync.Pool drop buffers; run: go test ./benchmarks -run TestReadWriteDoNotAllocate")
	}
	if *twoProcesses {
		t.Skip("allocations of the peer can be counted in this process only; run without -two-processes")
	}
	for _, name := range []string{lab.TCP, lab.Fallback, lab.SoftCRC, lab.Soft} {
		path, ok := lab.Lookup(name)
		require.True(t, ok)
		for _, size := range append(lab.PingPongSizes, lab.MaxMessage) {
			t.Run(fmt.Sprintf("%s/size=%s", name, lab.FormatSize(size)), func(t *testing.T) {
				c := connect(t, path)
				require.NoError(t, c.StartEcho(size, 0))
				var err error
				roundTrip := func() {
					if e := c.RoundTrip(size); e != nil {
						err = e
					}
				}
				for range 20 { // pools fill, buffers grow
					roundTrip()
				}
				allocs := testing.AllocsPerRun(100, roundTrip)
				require.NoError(t, err)
				require.Zero(t, allocs, "allocations per round trip")
			})
		}
	}
}

// TestSetUpAllocatesLittle would see a buffer that a connection does not give back at its end.
func TestSetUpAllocatesLittle(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes sync.Pool drop buffers; run: go test ./benchmarks -run TestSetUpAllocatesLittle")
	}
	if *twoProcesses {
		t.Skip("allocations of the peer can be counted in this process only; run without -two-processes")
	}
	const (
		conns       = 100
		rounds      = 5        // of which the best counts: a busy machine has more goroutines start, and pools empty
		most        = 12 << 10 // bytes for both ends of a connection
		mostObjects = 90       // objects, of which a plain connection with its user takes about 35
	)
	for _, name := range []string{lab.TCP, lab.Fallback, lab.SoftCRC} {
		t.Run(name, func(t *testing.T) {
			path, ok := lab.Lookup(name)
			require.True(t, ok)
			peer := startPeer(t, path)
			setUp := func(n int) (bytes, objects uint64) {
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				for range n {
					require.NoError(t, lab.SetUp(t.Context(), path, peer.Address(path, "")))
				}
				runtime.ReadMemStats(&after)
				return after.TotalAlloc - before.TotalAlloc, after.Mallocs - before.Mallocs
			}
			setUp(20) // pools fill
			bytes, objects := setUp(conns)
			for range rounds - 1 {
				b, o := setUp(conns)
				bytes, objects = min(bytes, b), min(objects, o)
			}
			require.Less(t, bytes/conns, uint64(most), "bytes allocated per connection")
			require.Less(t, objects/conns, uint64(mostObjects), "objects allocated per connection")
			t.Logf("%d bytes and %d objects per connection", bytes/conns, objects/conns)
		})
	}
}
