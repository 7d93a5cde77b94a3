//go:build !amd64 || purego

package crc32c

// each runs f.
func each[T any](t T, f func(T)) { f(t) }
