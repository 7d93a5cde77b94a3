package soft

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestReadDeadlineIsSetAnew sees to a call that goes on with the deadline at which it was woken, as
// one without a monotonic time is still to come once the clock is set back.
func TestReadDeadlineIsSetAnew(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	k, err := New(nil).Client(c.(*net.TCPConn), nil)
	require.NoError(t, err)
	q := k.QueuePair().(*queuePair)
	defer q.Abort()
	passed := time.Now().Round(0)
	q.sock.setReadDeadline(passed)
	require.True(t, q.sock.rd.is(passed))
	q.rx.n, q.rx.err = 0, nil
	err = q.blockingRead()
	require.True(t, isTimeout(q.rx.outcome(err)))
	require.False(t, q.sock.rd.is(passed))
}
