package soft_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/soft"
)

// TestLeaveEndToPeer lets the peer end the stream, but leaves it no more than a moment for that.
func TestLeaveEndToPeer(t *testing.T) {
	partings(t, 0) // those of tests before
	undo := soft.SetFarewellLimit(time.Hour)
	q, p, _ := role{}.initiator(t)
	post(t, q, transport.SendWR{Opcode: transport.OpSend, Flags: transport.Inline, Data: []byte("end")})
	q.(*soft.QueuePair).LeaveEndToPeer()
	require.NoError(t, q.Close())
	require.Equal(t, []byte("end"), p.nextOfUser().Payload)
	p.silent(200 * time.Millisecond) // the stream goes on
	require.NoError(t, p.c.CloseWrite())
	p.ended()
	require.ErrorIs(t, q.Close(), transport.ErrClosed)
	require.NoError(t, q.(*soft.QueuePair).AwaitClosed(time.Now().Add(patience)))

	partings(t, 0)
	undo()
	q, p, _ = role{}.initiator(t)
	q.(*soft.QueuePair).LeaveEndToPeer()
	require.NoError(t, q.Close())
	p.ended() // although the peer does nothing
}
