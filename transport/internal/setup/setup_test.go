package setup_test

import (
	"context"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/internal/testkit/leak"
	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/internal/setup"
)

func TestMain(m *testing.M) { leak.Main(m) }

const patience = 10 * time.Second

// TestWithin ends a call that waits for the peer by the limit, by a deadline and by cancellation.
func TestWithin(t *testing.T) {
	canceled := func(t *testing.T) context.Context {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		return ctx
	}
	soon := func(t *testing.T) context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		t.Cleanup(cancel)
		return ctx
	}
	for name, tt := range map[string]struct {
		ctx   func(*testing.T) context.Context
		limit time.Duration
		f     func(c net.Conn) error
		want  error
	}{
		"limit":    {(*testing.T).Context, time.Millisecond, read, transport.ErrHandshakeTimeout},
		"deadline": {soon, patience, read, context.DeadlineExceeded},
		"canceled": {canceled, patience, read, context.Canceled},
		"error":    {(*testing.T).Context, patience, func(net.Conn) error { return io.ErrClosedPipe }, io.ErrClosedPipe},
		"done":     {(*testing.T).Context, patience, func(net.Conn) error { return nil }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := net.Pipe()
			defer a.Close()
			defer b.Close()
			err := setup.Within(tt.ctx(t), a, tt.limit, func() error { return tt.f(a) })
			require.ErrorIs(t, err, tt.want)
		})
	}
}

// TestLimits ends each exchange by its own limit, in whatever order they begin, and leaves alone a
// connection whose exchange is over.
func TestLimits(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	dial := func() net.Conn {
		c, err := net.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		t.Cleanup(func() { c.Close() })
		return c
	}
	long, over := dial(), dial()
	first := setup.Begin(t.Context(), long, patience)
	ended := setup.Begin(t.Context(), over, 5*time.Millisecond)
	require.NoError(t, ended.End(nil))
	require.NoError(t, over.SetReadDeadline(time.Now().Add(time.Hour)))
	for range 3 {
		c := dial()
		x := setup.Begin(t.Context(), c, 20*time.Millisecond)
		require.ErrorIs(t, x.End(read(c)), transport.ErrHandshakeTimeout)
	}
	require.NoError(t, long.SetReadDeadline(time.Now().Add(time.Millisecond)))
	require.ErrorIs(t, read(long), os.ErrDeadlineExceeded)
	require.NoError(t, first.End(nil))
	got := make(chan error, 1)
	go func() { got <- read(over) }()
	select {
	case err := <-got:
		require.Fail(t, "the read has ended", "%v", err)
	case <-time.After(20 * time.Millisecond):
	}
	over.Close()
	require.ErrorIs(t, <-got, net.ErrClosed)
}

// TestNoTimeLeft does nothing where the deadline has passed before.
func TestNoTimeLeft(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	require.ErrorIs(t, setup.Within(ctx, a, patience, func() error { return read(a) }), context.DeadlineExceeded)
}

func read(c net.Conn) error {
	_, err := c.Read(make([]byte, 1))
	return err
}

// TestHalfOpen has the oldest connection give way whose request is still to come, and has others
// wait while all have spoken.
func TestHalfOpen(t *testing.T) {
	defer func(d time.Duration) { setup.RequestGrace = d }(setup.RequestGrace)
	setup.RequestGrace = 0
	h := setup.NewHalfOpen(2)
	var reset, canceled []string
	enter := func(ctx context.Context, name string) (*setup.Arrival, error) {
		a := &setup.Arrival{
			Cancel: func() { canceled = append(canceled, name) },
			Reset:  func() { reset = append(reset, name) },
		}
		return a, h.Enter(ctx, a)
	}
	first, err := enter(t.Context(), "first")
	require.NoError(t, err)
	require.True(t, h.Spoken(first))
	second, err := enter(t.Context(), "second")
	require.NoError(t, err)
	third, err := enter(t.Context(), "third")
	require.NoError(t, err)
	require.Equal(t, []string{"second"}, reset)
	require.Equal(t, []string{"second"}, canceled)
	require.False(t, h.Spoken(second))
	h.Leave(second) // has no place to give back
	require.True(t, h.Spoken(third))

	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err = enter(ctx, "fourth")
	require.ErrorIs(t, err, context.DeadlineExceeded, "all others have spoken")
	h.Leave(first)
	_, err = enter(t.Context(), "fifth")
	require.NoError(t, err)
}

// TestAttend runs what sees to a connection until that has to give way, and not without room.
func TestAttend(t *testing.T) {
	defer func(d time.Duration) { setup.RequestGrace = d }(setup.RequestGrace)
	setup.RequestGrace = 0
	h := setup.NewHalfOpen(1)
	var wg sync.WaitGroup
	defer wg.Wait()
	ended, spoke := make(chan error, 1), make(chan struct{})
	first := &setup.Arrival{Reset: func() {}}
	require.True(t, h.Attend(t.Context(), &wg, first, func(ctx context.Context) {
		<-ctx.Done()
		ended <- ctx.Err()
	}))
	ctx, cancel := context.WithCancel(t.Context())
	second := &setup.Arrival{Reset: func() {}}
	require.True(t, h.Attend(ctx, &wg, second, func(ctx context.Context) {
		h.Spoken(second)
		close(spoke)
		<-ctx.Done()
	}))
	require.Equal(t, context.Canceled, <-ended)
	<-spoke
	cancel()
	require.False(t, h.Attend(ctx, &wg, &setup.Arrival{}, nil))
	wg.Wait()
	require.False(t, h.Attend(ctx, &wg, &setup.Arrival{}, nil), "there is room, and nobody to take it")
}
