package lab

import "fmt"

// The message sizes that are measured, in bytes.
var (
	PingPongSizes = []int{1, 64, 4 << 10, 64 << 10}
	OneWaySizes   = []int{4 << 10, 64 << 10, 1 << 20}
)

// FormatSize writes n as a round number of B, KiB or MiB.
func FormatSize(n int) string {
	switch {
	case n >= 1<<20 && n%(1<<20) == 0:
		return fmt.Sprintf("%dMiB", n>>20)
	case n >= 1<<10 && n%(1<<10) == 0:
		return fmt.Sprintf("%dKiB", n>>10)
	}
	return fmt.Sprintf("%dB", n)
}
