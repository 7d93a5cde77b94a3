package rdmanet_test

import (
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/rdmanet"
	"github.com/rdmanet/iwarp/transport"
)

// A solo queue pair holds up a call of Wait once it is told to, and reports whether another one
// comes meanwhile.
type solo struct {
	wrapper
	armed       atomic.Bool
	begun, goOn chan struct{}
	calls       atomic.Int32
	together    atomic.Bool
}

func (q *solo) Wait(deadline time.Time) error {
	if q.calls.Add(1) > 1 {
		q.together.Store(true)
	}
	defer q.calls.Add(-1)
	if q.armed.CompareAndSwap(true, false) {
		close(q.begun)
		<-q.goOn
	}
	return q.QueuePair.Wait(deadline)
}

// Two calls that only look do not wait for the queue pair at a time: one of them could take the
// interrupt that is meant for a Read which begins after the other one.
func TestOneCallLooks(t *testing.T) {
	q := &solo{begun: make(chan struct{}), goOn: make(chan struct{})}
	e := connect(t, setting{wrap: func(qp transport.QueuePair) transport.QueuePair {
		if q.QueuePair != nil {
			return qp
		}
		q.wrapper = wrapper{qp} // the active end is made first
		return q
	}})
	release := sync.OnceFunc(func() { close(q.goOn) })
	t.Cleanup(release)
	q.armed.Store(true)
	wait := background(t, func() {
		if err := e.a.CloseWrite(); err != nil {
			t.Error(err)
		}
	})
	<-q.begun
	require.NoError(t, within(t, e.a.CloseRead))
	require.False(t, q.together.Load())
	release()
	wait()
}

// A hasty queue pair has no time for waits that have a limit, and records looks and what is posted.
type hasty struct {
	wrapper
	did chan string
}

func (q hasty) Wait(deadline time.Time) error {
	if !deadline.IsZero() {
		return os.ErrDeadlineExceeded
	}
	return q.QueuePair.Wait(deadline)
}

func (q hasty) Look() bool {
	q.did <- "look"
	l, _ := transport.As[transport.Looker](q.QueuePair)
	return l.Look()
}

func (q hasty) PostSend(wrs []transport.SendWR) (int, error) {
	q.did <- "post"
	return q.QueuePair.PostSend(wrs)
}

// A plain peer that may have sent its last word is not told of space before somebody has looked for
// that, even where the host is so busy that the time for it is over at once.
func TestLookBeforeFirstGrant(t *testing.T) {
	q := hasty{did: make(chan string, 100)}
	p, c, _ := dialRawTo(t, setting{wrap: func(qp transport.QueuePair) transport.QueuePair {
		q.wrapper = wrapper{qp}
		return q
	}}, &rdmanet.Config{RingSize: 8192}, nil)
	wait := background(t, func() { hear(t, c) })
	require.Equal(t, "look", within(t, func() string { return <-q.did }))
	p.data([]byte("x"))
	wait()
}
