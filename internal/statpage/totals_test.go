package statpage_test

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/internal/statpage"
)

func totals() *statpage.Totals {
	_, t := statpage.Survey()
	return &t
}

// TestTotals counts connections while they are there and once they are gone.
func TestTotals(t *testing.T) {
	before := totals()
	soft := traits()
	soft.Flags |= statpage.FlagFailed | statpage.FlagTermReceived
	unknown := soft
	unknown.Flags, unknown.Transport, unknown.Device = 0, "", "shm" // closed before its transport was known
	for range 2 {
		a, b := statpage.OpenConn(&soft), statpage.OpenConn(&unknown)
		a.Arrived(30)
		a.Sent(100, 2)
		a.Block(time.Unix(50, 0))
		a.Unblock(time.Unix(53, 0))
		b.Arrived(7)
		a.Free()
		b.Free()
	}
	l := statpage.OpenListener(&soft)
	l.Count(statpage.Refused).Add(5)
	open := statpage.OpenConn(&soft)
	open.Arrived(1)
	check := func(s *statpage.Totals, open uint64) {
		t.Helper()
		was, is := before.Conns(statpage.PathOf("soft")), s.Conns(statpage.PathOf("soft"))
		require.Equal(t, 60+open, is.BytesIn-was.BytesIn)
		require.EqualValues(t, 200, is.BytesOut-was.BytesOut)
		require.Equal(t, 2+open, is.MessagesIn-was.MessagesIn)
		require.EqualValues(t, 4, is.MessagesOut-was.MessagesOut)
		require.Equal(t, 6*time.Second, is.Blocked-was.Blocked)
		require.EqualValues(t, 2, is.BlockedTimes-was.BlockedTimes)
		require.Equal(t, 2+open, is.Failed-was.Failed)
		require.Equal(t, 2+open, is.TerminatesReceived-was.TerminatesReceived)
		require.Equal(t, is.TerminatesSent, was.TerminatesSent)
		require.EqualValues(t, 14, s.Conns(statpage.PathOf("shm")).BytesIn-before.Conns(statpage.PathOf("shm")).BytesIn)
		require.EqualValues(t, 5, s.Clients[statpage.Refused]-before.Clients[statpage.Refused])
	}
	check(totals(), 1)
	open.Free()
	l.Free()
	check(totals(), 1)

	took := totals().Took[statpage.Dialed]
	statpage.SetUp(statpage.Dialed, "soft", 0, time.Millisecond)
	statpage.SetUp(statpage.Dialed, "tcp", 4, time.Second)
	took[0] += time.Second
	took[1] += time.Millisecond
	require.Equal(t, took, totals().Took[statpage.Dialed])
}

// TestTotalsNeverFall surveys while connections come and go.
func TestTotalsNeverFall(t *testing.T) {
	tr := traits()
	before := totals().Conns(statpage.PathOf("soft")).BytesIn
	const conns = 2000
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for range conns {
				c := statpage.OpenConn(&tr)
				c.Arrived(1000)
				c.Free()
			}
		})
	}
	done := make(chan struct{})
	go func() {
		wg.Wait()
		close(done)
	}()
	last := before
	for more := true; more; {
		select {
		case <-done:
			more = false
		default:
		}
		now := totals().Conns(statpage.PathOf("soft")).BytesIn
		require.GreaterOrEqual(t, now, last)
		require.LessOrEqual(t, now, before+2*conns*1000)
		last = now
	}
	require.Equal(t, before+2*conns*1000, last)
}
