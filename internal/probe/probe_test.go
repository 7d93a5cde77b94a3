package probe

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestOnce does not take a failure to try for an answer.
func TestOnce(t *testing.T) {
	answers := []error{errors.New("too many open files"), nil, errors.New("not asked any more")}
	calls := 0
	has := Once(func() (bool, error) {
		calls++
		return answers[calls-1] == nil, answers[calls-1]
	})
	require.False(t, has())
	require.True(t, has())
	require.True(t, has())
	require.Equal(t, 2, calls)
}
