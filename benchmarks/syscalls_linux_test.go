package benchmarks

import (
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// syscalls counts the system calls of this process by kind, by a tracepoint of the kernel.
type syscalls struct{ events map[string][]int }

const allKinds = "all"

var filters = map[string]string{
	allKinds: "",
	"futex":  fmt.Sprintf("id==%d", unix.SYS_FUTEX),
	"epoll":  fmt.Sprintf("id==%d", unix.SYS_EPOLL_PWAIT),
}

// startSyscalls counts nothing where that takes a privilege which the test lacks.
func startSyscalls(t *testing.T) *syscalls {
	s := &syscalls{events: map[string][]int{}}
	b, err := os.ReadFile("/sys/kernel/tracing/events/raw_syscalls/sys_enter/id")
	if err != nil {
		return s
	}
	id, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	require.NoError(t, err)
	threads, err := os.ReadDir("/proc/self/task")
	require.NoError(t, err)
	t.Cleanup(s.close)
	for kind, filter := range filters {
		for _, thread := range threads {
			tid, err := strconv.Atoi(thread.Name())
			require.NoError(t, err)
			err = s.add(kind, filter, id, tid)
			if err != nil && err != unix.ESRCH { // that thread is gone
				s.close()
				return s
			}
		}
	}
	return s
}

// add counts those of one thread, and of the threads that it starts.
func (s *syscalls) add(kind, filter string, tracepoint uint64, thread int) error {
	fd, err := unix.PerfEventOpen(&unix.PerfEventAttr{Type: unix.PERF_TYPE_TRACEPOINT, Config: tracepoint, Bits: unix.PerfBitInherit,
		Size: uint32(unsafe.Sizeof(unix.PerfEventAttr{}))}, thread, -1, -1, unix.PERF_FLAG_FD_CLOEXEC)
	if err != nil {
		return err
	}
	s.events[kind] = append(s.events[kind], fd)
	if filter == "" {
		return nil
	}
	return unix.IoctlSetString(fd, unix.PERF_EVENT_IOC_SET_FILTER, filter)
}

func (s *syscalls) close() {
	for _, fds := range s.events {
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
	}
	s.events = nil
}

func (s *syscalls) kinds() []string { return slices.Sorted(maps.Keys(s.events)) }

func (s *syscalls) count(t *testing.T) map[string]int64 {
	t.Helper()
	counts := map[string]int64{}
	for kind, fds := range s.events {
		for _, fd := range fds {
			var b [8]byte
			_, err := unix.Read(fd, b[:])
			require.NoError(t, err)
			counts[kind] += int64(binary.NativeEndian.Uint64(b[:]))
		}
	}
	return counts
}
