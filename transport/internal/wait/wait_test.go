package wait

import (
	"context"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/internal/testkit/leak"
	"github.com/rdmanet/iwarp/transport"
)

func TestMain(m *testing.M) { leak.Main(m) }

// limit bounds every wait of a test. It is only met by a failure.
const limit = 20 * time.Second

// A driver hands on what the test gives it.
type driver struct {
	crew Crew
	mu   sync.Mutex
	done map[*Condition]bool // guarded by mu

	news   chan *Condition // for the one who drives; nil is an interrupt
	drives chan *Condition // told before each wait for news
	pause  Pause
}

func newDriver() (d *driver, a, b *Condition) {
	d = &driver{done: make(map[*Condition]bool), news: make(chan *Condition), drives: make(chan *Condition, 100)}
	d.crew.Give(&d.crew.Token)
	return d, d.condition(), d.condition()
}

func (d *driver) condition() *Condition {
	return new(Condition)
}

func (d *driver) Holds(c *Condition) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.done[c], nil
}

func (d *driver) Drive(c *Condition, seen uint32, deadline time.Time) (Pause, error) {
	d.drives <- c
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	select {
	case got := <-d.news:
		d.mu.Lock()
		if got != nil {
			d.done[got] = true
		}
		d.crew.Wake()
		d.mu.Unlock()
	case <-ctx.Done():
	}
	return d.pause, ErrAgain
}

// call begins a call that waits for c.
func (d *driver) call(c *Condition, deadline time.Time) chan error {
	ended := make(chan error, 1)
	seen := c.Begin()
	go func() { ended <- d.crew.For(d, c, seen, deadline) }()
	return ended
}

func soon() time.Time { return time.Now().Add(limit) }

// A call that follows learns of what the driver finds, and drives once that one is done.
func TestCallsTakeTurns(t *testing.T) {
	d, a, b := newDriver()
	first := d.call(a, soon())
	require.Same(t, a, <-d.drives)
	second := d.call(b, soon())
	third := d.call(a, soon())
	for d.crew.followers.Load() < 2 {
		time.Sleep(time.Millisecond)
	}
	require.True(t, d.crew.Followed())
	d.news <- a
	require.NoError(t, <-first)
	require.NoError(t, <-third)
	require.Same(t, b, <-d.drives, "the one who is left drives")
	d.news <- b
	require.NoError(t, <-second)
	require.False(t, d.crew.Followed())
	require.NoError(t, <-d.call(a, soon()), "it holds already")
	require.True(t, d.crew.Take(), "the token is back")
}

// Interrupts end the calls that are there, or the next one.
func TestInterrupts(t *testing.T) {
	d, a, b := newDriver()
	first := d.call(a, soon())
	<-d.drives
	second := d.call(b, soon())
	for d.crew.followers.Load() < 1 {
		time.Sleep(time.Millisecond)
	}
	b.Interrupt()
	d.mu.Lock()
	d.crew.Wake()
	d.mu.Unlock()
	require.Equal(t, transport.ErrInterrupted, <-second)
	a.Interrupt()
	d.news <- nil
	require.Equal(t, transport.ErrInterrupted, <-first)
	a.Interrupt()
	require.Equal(t, transport.ErrInterrupted, <-d.call(a, soon()), "before it begins")
	last := d.call(a, soon())
	<-d.drives
	d.news <- a
	require.NoError(t, <-last, "once only")
}

func TestDeadlines(t *testing.T) {
	d, a, b := newDriver()
	require.Equal(t, os.ErrDeadlineExceeded, <-d.call(a, time.Unix(1, 0)))
	require.Equal(t, os.ErrDeadlineExceeded, <-d.call(a, time.Now().Add(time.Millisecond)), "of the one who drives")
	first := d.call(a, soon())
	for <-d.drives; len(d.drives) > 0; <-d.drives {
	}
	require.Equal(t, os.ErrDeadlineExceeded, <-d.call(b, time.Now().Add(time.Millisecond)), "of one who follows")
	d.news <- a
	require.NoError(t, <-first)
}

// A driver that gives way does so without the token, and comes back at news.
func TestPauses(t *testing.T) {
	for _, p := range []Pause{Yield, Back} {
		d, a, _ := newDriver()
		d.pause = p
		call := d.call(a, soon())
		for range 3 {
			<-d.drives
			d.news <- nil
		}
		<-d.drives
		d.news <- a
		require.NoError(t, <-call)
		require.True(t, d.crew.Take(), "the token is back")
	}
	news := make(chan struct{})
	close(news)
	Back.Take(news, time.Time{})
	Back.Take(nil, time.Unix(1, 0))
	NoPause.Take(nil, time.Time{})
}

// A tired driver has its calls pause each time.
type tired struct {
	driver
	drove atomic.Int32
}

func (d *tired) Drive(*Condition, uint32, time.Time) (Pause, error) {
	d.drove.Add(1)
	return Back, ErrAgain
}

// Calls that pause do not wake each other.
func TestBackOfTwo(t *testing.T) {
	d := &tired{}
	d.crew.Give(&d.crew.Token)
	const pauses = 20
	deadline := time.Now().Add(pauses * backTime)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			c := d.condition()
			if err := d.crew.For(d, c, c.Begin(), deadline); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	require.LessOrEqual(t, d.drove.Load(), int32(2*(pauses+1)))
}

// TestAwait has many wait for a token, one of which has it at a time, and then for nothing.
func TestAwait(t *testing.T) {
	var crew Crew
	crew.Give(&crew.Token)
	var wg sync.WaitGroup
	var holders, had atomic.Int32
	const callers, turns = 8, 200
	for range callers {
		wg.Go(func() {
			for range turns {
				if !crew.Await(&crew.Token, nil) || holders.Add(1) != 1 {
					t.Error("not the only one that has it")
				}
				had.Add(1)
				holders.Add(-1)
				crew.Give(&crew.Token)
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, callers*turns, had.Load())

	require.True(t, crew.Take())
	quit := make(chan struct{})
	gone := make(chan bool)
	go func() { gone <- crew.Await(&crew.Token, quit) }()
	require.Eventually(t, crew.Followed, limit, time.Millisecond)
	close(quit)
	require.False(t, <-gone)
	require.False(t, crew.Followed())

	go func() { gone <- crew.Await(&crew.Token, nil) }()
	require.Eventually(t, crew.Followed, limit, time.Millisecond)
	crew.Give(&crew.Token)
	require.True(t, <-gone)
}

// Calls that follow look again at news, also at those from before they wait.
func TestFollow(t *testing.T) {
	d, a, _ := newDriver()
	seen := a.Begin()
	require.True(t, d.crew.Follow(d, &d.crew.Token, a, seen, time.Time{}), "nobody has the token")
	a.Interrupt()
	require.False(t, d.crew.Follow(d, &d.crew.Token, a, seen, time.Time{}), "interrupted")
}
