package rdmanet

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestForbidCalls has Close find no call, one that begins too late, and one that is under way.
func TestForbidCalls(t *testing.T) {
	t.Run("none", func(t *testing.T) {
		var c calls
		c.forbid()
		c.await()
		require.False(t, c.begin())
	})
	t.Run("one that has counted itself and not yet seen that it is refused", func(t *testing.T) {
		var c calls
		c.forbid()
		require.Negative(t, c.n.Add(1))
		awaited := make(chan struct{})
		go func() { c.await(); close(awaited) }()
		<-awaited
		c.end()
	})
	t.Run("one under way, and one that is refused", func(t *testing.T) {
		var c calls
		require.True(t, c.begin())
		c.forbid()
		c.n.Add(1)
		awaited := make(chan struct{})
		go func() { c.await(); close(awaited) }()
		c.end()
		c.end()
		<-awaited
	})
}
