package instant

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTime(t *testing.T) {
	now := time.Now()
	for _, want := range []time.Time{{}, now, now.Add(time.Nanosecond), origin.Add(-time.Hour), time.Unix(1, 0), now.Add(200 * 365 * 24 * time.Hour)} {
		got := Of(want).Time()
		require.True(t, want.Equal(got), "%v is %v", want, got)
		require.Equal(t, want.IsZero(), Of(want) == 0)
	}
	require.Equal(t, origin.Add(1), Of(origin).Time(), "0 stands for none")
	require.NotZero(t, Of(now.Add(1<<63-1).Add(1<<63-1)), "further away than can be told")
}

func TestPassed(t *testing.T) {
	require.False(t, Time(0).Passed())
	require.True(t, Of(time.Now()).Passed())
	require.True(t, Of(time.Unix(1, 0)).Passed())
	require.False(t, Of(time.Now().Add(time.Hour)).Passed())
}
