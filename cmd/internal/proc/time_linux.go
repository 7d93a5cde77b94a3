package proc

import (
	"time"

	"golang.org/x/sys/unix"
)

// ProcessorTime is what this program has used of processors.
func ProcessorTime() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
