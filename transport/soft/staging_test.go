package soft_test

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/soft"
)

// While only the beginning of an FPDU has come, no more is held than is in proportion to that.
func TestMemoryForTheBeginningOfAnFPDU(t *testing.T) {
	defer soft.BoundLargeParked(0)()
	const conns = 10
	long := send(1, make([]byte, 60000))
	for name, tc := range map[string]struct {
		sends   []byte
		arrives int // messages
		most    int // bytes held
	}{
		"one byte":                                {long[:1], 0, 4 << 10},
		"a header":                                {long[:20], 0, 4 << 10},
		"a kilobyte":                              {long[:1000], 0, 4 << 10},
		"two kilobytes":                           {long[:2000], 0, 12 << 10},
		"twenty kilobytes":                        {long[:20000], 0, 32 << 10},
		"nearly all":                              {long[:60000], 0, 80 << 10},
		"one byte behind a short message":         {concat(send(1, nil), long[:1]), 1, 4 << 10},
		"one byte behind a long one":              {concat(long, long[:1]), 1, 4 << 10},
		"one byte behind many long ones":          {concat(long, send(2, make([]byte, 60000)), send(3, make([]byte, 60000)), long[:1]), 3, 4 << 10},
		"two kilobytes, while nobody reads again": {concat(send(1, nil), long[:2000]), 1, 12 << 10},
	} {
		t.Run(name, func(t *testing.T) {
			mem := make([]byte, 60000)
			var all []*soft.QueuePair
			for range conns {
				q, p, _ := role{prepare: func(q transport.QueuePair) {
					r := register(t, q, mem, transport.LocalWrite)
					for range tc.arrives {
						_, err := q.PostRecv([]transport.RecvWR{{Data: mem, Region: r}})
						require.NoError(t, err)
					}
				}}.responder(t)
				p.write(tc.sends)
				for range tc.arrives {
					require.Equal(t, transport.StatusSuccess, next(t, q).Status)
				}
				all = append(all, q.(*soft.QueuePair))
			}
			for _, q := range all {
				// It is as small as that once somebody has waited for more.
				for i := 0; i < 50 && (soft.BytesWait(q) || soft.Staging(q) > tc.most); i++ {
					require.Equal(t, os.ErrDeadlineExceeded, q.Wait(time.Now().Add(time.Duration(i)*time.Millisecond)))
				}
				require.Positive(t, soft.Staging(q))
				require.LessOrEqual(t, soft.Staging(q), tc.most)
			}
		})
	}
}

// Connections that have been busy keep large staging while they wait, but not all that there may be
// of them.
func TestMemoryOfManyBusyConnections(t *testing.T) {
	long := send(1, make([]byte, 60000))
	busy := func() *soft.QueuePair {
		mem := make([]byte, 60000)
		q, p, _ := role{prepare: func(q transport.QueuePair) {
			r := register(t, q, mem, transport.LocalWrite)
			for range 3 {
				_, err := q.PostRecv([]transport.RecvWR{{Data: mem, Region: r}})
				require.NoError(t, err)
			}
		}}.responder(t)
		p.write(concat(long, send(2, make([]byte, 60000)), send(3, make([]byte, 60000)), long[:2000]))
		for range 3 {
			require.Equal(t, transport.StatusSuccess, next(t, q).Status)
		}
		return q.(*soft.QueuePair)
	}
	waits := func(q *soft.QueuePair, tries int) int {
		for i := 0; i < tries && (soft.BytesWait(q) || soft.Staging(q) > 12<<10); i++ {
			require.Equal(t, os.ErrDeadlineExceeded, q.Wait(time.Now().Add(time.Duration(i)*time.Millisecond)))
		}
		return soft.Staging(q)
	}
	restore := soft.BoundLargeParked(0)
	require.LessOrEqual(t, waits(busy(), 50), 12<<10)
	restore()
	require.Greater(t, waits(busy(), 5), 12<<10)
	require.Zero(t, soft.LargeParked(), "nobody waits")
	defer soft.BoundLargeParked(1)()
	one, other := busy(), busy()
	waiting := make(chan error, 1)
	go func() { waiting <- one.Wait(soon()) }()
	for end := soon(); soft.LargeParked() == 0; time.Sleep(time.Millisecond) {
		require.True(t, time.Now().Before(end))
	}
	require.LessOrEqual(t, waits(other, 50), 12<<10)
	one.Interrupt()
	require.Equal(t, transport.ErrInterrupted, <-waiting)
	require.Zero(t, soft.LargeParked())
}
