//go:build !purego

package crc32c

import "testing"

// each runs f with every kernel that the processor has.
func each[T interface {
	*testing.T | *testing.B
	Run(string, func(T)) bool
}](t T, f func(T)) {
	best := choose()
	defer func() { widest = best }()
	kernels := map[string]kernel{"hash/crc32": nil}
	if best != nil {
		kernels["256"] = fold256
		if has512() {
			kernels["512"] = fold512
		}
	}
	for name, k := range kernels {
		t.Run(name, func(t T) {
			widest = k
			f(t)
		})
	}
}
