package brief_test

import (
	"context"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/internal/brief"
	"github.com/rdmanet/iwarp/internal/testkit/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

const patience = 20 * time.Second

// TestContext ends contexts in each way, with and without somebody who waits for that.
func TestContext(t *testing.T) {
	type key struct{}
	for name, tt := range map[string]struct {
		limit, parent time.Duration // 0 means patience
		end           func(c *brief.Context, parent context.CancelFunc)
		want          error
	}{
		"its end":             {end: func(c *brief.Context, _ context.CancelFunc) { c.End() }, want: context.Canceled},
		"its parent's end":    {end: func(_ *brief.Context, parent context.CancelFunc) { parent() }, want: context.Canceled},
		"its deadline":        {limit: time.Millisecond, want: context.DeadlineExceeded},
		"its parent's":        {parent: time.Millisecond, want: context.DeadlineExceeded},
		"end and end again":   {end: func(c *brief.Context, parent context.CancelFunc) { c.End(); parent(); c.End() }, want: context.Canceled},
		"a deadline long ago": {limit: -time.Second, want: context.DeadlineExceeded},
	} {
		for _, how := range []string{"Err", "Done", "Done, late", "child", "Hold", "Hold, late"} {
			t.Run(name+"/"+how, func(t *testing.T) {
				limit, parentLimit := patience, patience
				if tt.limit != 0 {
					limit = tt.limit
				}
				if tt.parent != 0 {
					parentLimit = tt.parent
				}
				parent, cancel := context.WithTimeout(context.WithValue(t.Context(), key{}, "v"), parentLimit)
				defer cancel()
				c := brief.New(parent, time.Now().Add(limit))
				defer c.End()
				require.Equal(t, "v", c.Value(key{}))
				deadline, ok := c.Deadline()
				require.True(t, ok)
				require.LessOrEqual(t, time.Until(deadline), min(limit, parentLimit))

				done := func() <-chan struct{} { return nil }
				a, b := net.Pipe()
				defer a.Close()
				defer b.Close()
				switch how {
				case "Done":
					first := c.Done()
					done = func() <-chan struct{} { return first }
				case "Done, late":
					done = c.Done
				case "child":
					child, cancel := context.WithCancel(c)
					defer cancel()
					done = child.Done
				case "Hold":
					_ = a.SetDeadline(deadline)
					c.Hold(a)
				}
				if tt.end != nil {
					require.NoError(t, c.Err())
					tt.end(c, cancel)
				}
				if how == "Hold, late" {
					_ = a.SetDeadline(deadline)
					c.Hold(a)
				}
				switch how {
				case "Err":
					require.Eventually(t, func() bool { return c.Err() != nil }, patience, time.Millisecond)
				case "Hold", "Hold, late":
					_, err := a.Read(make([]byte, 1))
					require.ErrorIs(t, err, os.ErrDeadlineExceeded)
				default:
					select {
					case <-done():
					case <-time.After(patience):
						t.Fatal("it did not end")
					}
				}
				require.Equal(t, tt.want, c.Err())
			})
		}
	}
}

// TestRelease keeps the deadlines of a connection that is no longer held.
func TestRelease(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	c := brief.New(t.Context(), time.Now().Add(patience))
	c.Hold(a)
	c.Release()
	c.End()
	go func() { _, _ = b.Write([]byte("x")) }()
	_, err := a.Read(make([]byte, 1))
	require.NoError(t, err)
}

// TestCost has nobody pay for what is not used.
func TestCost(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	deadline := time.Now().Add(time.Hour)
	n := testing.AllocsPerRun(100, func() {
		c := brief.New(context.Background(), deadline)
		c.Hold(a)
		c.Release()
		c.End()
	})
	require.LessOrEqual(t, n, 1.0)
}
