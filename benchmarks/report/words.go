package main

import (
	"fmt"
	"math"

	"github.com/rdmanet/iwarp/benchmarks/internal/lab"
)

// label turns a path's name into words.
func label(path string) string {
	l, ok := map[string]string{
		lab.TCP:         "plain TCP",
		lab.TCPAgain:    "control",
		lab.Fallback:    "fallback",
		lab.SoftCRC:     "CRC32C",
		lab.SoftPoll:    "CRC32C, polling",
		lab.Soft:        "no CRC",
		lab.TLS:         "crypto/tls",
		lab.Shm:         "shared memory",
		lab.ShmPoll:     "shared memory, polling",
		lab.Unix:        "Unix sockets",
		lab.SoftCRC1460: "CRC32C",
		lab.Soft1460:    "no CRC",
	}[path]
	if !ok {
		return path
	}
	return l
}

// inWords writes a size.
func inWords(bytes int) string {
	switch {
	case bytes >= 1<<20:
		return fmt.Sprint(bytes>>20, " MiB")
	case bytes >= 1<<10:
		return fmt.Sprint(bytes>>10, " KiB")
	}
	return fmt.Sprint(bytes, " B")
}

// absolute writes a value of a unit of the measures.
func absolute(v number, unit string) string {
	if !v.there() {
		return "–"
	}
	f := float64(v)
	switch unit {
	case p50, p99, p999, cpuOp:
		return digits(f/1e3) + " µs"
	case cpuByte:
		return digits(f) + " ns"
	case rate:
		return digits(f/1e9) + " GB/s"
	case messages, operations, setUps:
		if math.Abs(f) >= 1e6 {
			return digits(f/1e6) + " M/s"
		}
		return digits(f/1e3) + " k/s"
	case idleMemory:
		return digits(f/1e3) + " kB"
	}
	return fmt.Sprintf("%.2f", f)
}

// digits writes v with about three digits and no exponent.
func digits(v float64) string {
	switch a := math.Abs(v); {
	case a >= 100:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// ratio writes v with two digits, and three where it is small.
func ratio(v number) string {
	switch {
	case !v.there():
		return "–"
	case v < 0.1:
		return fmt.Sprintf("%.3f", float64(v))
	}
	return fmt.Sprintf("%.2f", float64(v))
}
