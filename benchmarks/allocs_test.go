package benchmarks

import (
	"fmt"
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
