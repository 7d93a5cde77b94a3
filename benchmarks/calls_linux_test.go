package benchmarks

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
	"testing"

	"github.com/rdmanet/iwarp/benchmarks/internal/lab"
	"github.com/stretchr/testify/require"
)

// counted is what the process has done so far, both ends together.
type counted struct {
	reads, writes int64 // calls of read and write, and of their kin
	waits         int64 // times that a thread has given up its processor
	allocated     int64 // bytes
	calls         map[string]int64
}

func count(t *testing.T, s *syscalls) (c counted) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/io")
	if err != nil {
		t.Skipf("the kernel does not count system calls: %v", err)
	}
	var rchar, wchar int64
	_, err = fmt.Sscanf(string(b), "rchar: %d\nwchar: %d\nsyscr: %d\nsyscw: %d", &rchar, &wchar, &c.reads, &c.writes)
	require.NoError(t, err)
	var u syscall.Rusage
	require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	c.waits, c.allocated = u.Nvcsw, int64(m.TotalAlloc)
	c.calls = s.count(t)
	return c
}

// TestCallsOfAnOperation counts what a Write and a Read take, beside those of plain TCP. How often
// a Read finds nothing, and how often the kernel takes only a part, depends on the scheduler; that
// a small Write is one system call does not. docs/performance.md has a table of what -v prints.
func TestCallsOfAnOperation(t *testing.T) {
	if *twoProcesses {
		t.Skip("the calls of both ends can be counted in one process only; run without -two-processes")
	}
	for _, name := range []string{lab.TCP, lab.Soft, lab.SoftCRC, lab.Shm, lab.Unix} {
		path, ok := lab.Lookup(name)
		require.True(t, ok)
		for _, size := range []int{64, 4 << 10, 64 << 10, 1 << 20} {
			t.Run(fmt.Sprintf("%s/size=%s", name, lab.FormatSize(size)), func(t *testing.T) {
				rounds := int64(200)
				if size > 64<<10 {
					rounds = 50
				}
				c := connect(t, path)
				require.NoError(t, c.StartEcho(size, 0))
				for range 20 {
					require.NoError(t, c.RoundTrip(size))
				}
				s := startSyscalls(t)
				before := count(t, s)
				for range rounds {
					require.NoError(t, c.RoundTrip(size))
				}
				after := count(t, s)
				each := func(from, to int64) float64 { return float64(to-from) / float64(2*rounds) }
				writes := each(before.writes, after.writes)
				t.Logf("a message takes %.2f writes, %.2f reads, %.2f waits of a thread, %.0f bytes allocated", writes,
					each(before.reads, after.reads), each(before.waits, after.waits), each(before.allocated, after.allocated))
				for _, kind := range s.kinds() {
					t.Logf("%.2f system calls: %s", each(before.calls[kind], after.calls[kind]), kind)
				}
				if size <= 4<<10 {
					require.Less(t, writes, 2.0)
				}
			})
		}
	}
}
