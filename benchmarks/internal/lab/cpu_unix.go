//go:build unix

package lab

import (
	"time"

	"golang.org/x/sys/unix"
)

// CPUTime returns the user and system time that this process has used.
func CPUTime() time.Duration {
	var ru unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &ru); err != nil {
		return 0
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}
