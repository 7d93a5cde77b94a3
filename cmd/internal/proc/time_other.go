//go:build !linux

package proc

import "time"

// ProcessorTime is there on Linux only.
func ProcessorTime() time.Duration { return 0 }
