package testkit

import (
	"runtime"
	"testing"
	"time"
)

// Within returns what f returned. It fails the test, and shows what every goroutine does, if f
// takes so long that it must be blocked.
func Within[T any](t testing.TB, f func() T) T {
	t.Helper()
	done := make(chan T, 1)
	go func() { done <- f() }()
	select {
	case v := <-done:
		return v
	case <-time.After(Patience):
		Blocked(t, "still blocked")
		panic("unreachable")
	}
}

// Background runs f, and returns a function that waits for it as Within does.
func Background(t testing.TB, f func()) (wait func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	return func() {
		t.Helper()
		Within(t, func() struct{} { return <-done })
	}
}

// Blocked fails the test because of what is blocked, and shows what every goroutine does.
func Blocked(t testing.TB, what string) {
	t.Helper()
	stacks := make([]byte, 1<<20)
	t.Fatalf("%s:\n%s", what, stacks[:runtime.Stack(stacks, true)])
}
