package soak

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A footprint is what a process has.
type footprint struct {
	Goroutines, Descriptors int
	Resident                int64 // bytes
}

func (f footprint) String() string {
	return fmt.Sprintf("%d MB resident, %d descriptors, %d goroutines", f.Resident>>20, f.Descriptors, f.Goroutines)
}

// measure takes the footprint, of which some is 0 where the system does not tell. Memory is that
// which is in use: what the collector would find later is given back before.
func measure() footprint {
	debug.FreeOSMemory()
	files, _ := os.ReadDir("/proc/self/fd")
	f := footprint{Goroutines: runtime.NumGoroutine(), Descriptors: len(files)}
	statm, _ := os.ReadFile("/proc/self/statm")
	if fields := strings.Fields(string(statm)); len(fields) > 1 {
		pages, _ := strconv.ParseInt(fields[1], 10, 64)
		f.Resident = pages * int64(os.Getpagesize())
	}
	return f
}

// baseline takes the footprint once there is what a process makes once and keeps.
func baseline() footprint {
	s, err := listen("127.0.0.1:0", false)
	if err != nil {
		return measure()
	}
	w := newCrowd(s.address)
	if c := w.dial(); c != nil {
		w.exchange(c, make([]byte, 100))
		_ = c.Close()
	}
	s.close()
	return measure()
}

// returns waits until there are no more goroutines and descriptors than in f, and says what is
// left.
func (f footprint) returns() (footprint, bool) {
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		now := measure()
		if ok := now.Goroutines <= f.Goroutines+1 && now.Descriptors <= f.Descriptors; ok || time.Now().After(end) {
			return now, ok
		}
	}
}

func (f footprint) awaitEnd(t *testing.T) {
	t.Helper()
	now, ok := f.returns()
	require.True(t, ok, "before: %v; at the end: %v", f, now)
	t.Log("at the end:", now)
}
