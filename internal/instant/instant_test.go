package instant

import (
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
)

func TestTime(t *testing.T) {
	now := time.Now()
	for _, want := range []time.Time{{}, now, now.Add(time.Nanosecond), origin.Add(-time.Hour), time.Unix(1, 0), now.Add(200 * 365 * 24 * time.Hour)} {
		got := Of(want).Time()
		require.WithinDuration(t, want, got, time.Second) // the clock of one without a monotonic reading may differ
		require.Equal(t, want.IsZero(), Of(want) == 0)
	}
	require.Equal(t, origin.Add(1), Of(origin).Time(), "0 stands for none")
	require.NotZero(t, Of(now.Add(1<<63-1).Add(1<<63-1)), "further away than can be told")
}

// The wall clock may have been set since the process began.
func TestWallClock(t *testing.T) {
	was := origin
	defer func() { origin = was }()
	const hour = 3600 << 30 // of a time.Time that has a reading of the monotonic clock
	*(*uint64)(unsafe.Pointer(&origin)) -= hour
	require.InDelta(t, time.Hour, time.Now().Round(0).Sub(origin.Round(0)), float64(20*time.Minute), "the clock is an hour ahead")
	for _, in := range []time.Duration{time.Second, -time.Second, 20 * time.Hour} {
		got := time.Until(Of(time.Now().Add(in).Round(0)).Time())
		require.InDelta(t, in, got, float64(20*time.Minute))
	}
	require.Positive(t, Of(time.Now().Round(0).Add(1<<63-1)), "further away than can be told")
}

func TestPassed(t *testing.T) {
	require.False(t, Time(0).Passed())
	require.True(t, Of(time.Now()).Passed())
	require.True(t, Of(time.Unix(1, 0)).Passed())
	require.False(t, Of(time.Now().Add(time.Hour)).Passed())
}
