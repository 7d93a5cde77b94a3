//go:build !unix

package lab

import "time"

// CPUTime returns 0: it is not measured on this system.
func CPUTime() time.Duration { return 0 }
