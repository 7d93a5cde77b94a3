package iwarp

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deadline{c: make(chan struct{})}
		require.False(t, isClosed(d.passed()))

		early := d.passed()
		d.set(time.Now().Add(time.Minute))
		time.Sleep(time.Minute - 1)
		synctest.Wait()
		require.False(t, isClosed(early))
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		require.True(t, isClosed(early), "who waited before the setting is woken")

		d.set(time.Time{})
		require.False(t, isClosed(d.passed()))
		d.set(time.Now().Add(-1))
		require.True(t, isClosed(d.passed()))
		d.set(time.Now().Add(time.Hour))
		require.False(t, isClosed(d.passed()))
		d.set(time.Time{})
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		require.False(t, isClosed(d.passed()), "a deadline taken back does not pass")
	})
}
