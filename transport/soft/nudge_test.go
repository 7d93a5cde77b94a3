package soft_test

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport/soft/internal/rdmap"
)

// A responder that was not ready for our first FPDU, as siw may be, is sent more until it speaks.
func TestNudge(t *testing.T) {
	_, p, _ := role{}.initiator(t)
	for range 4 {
		s := p.next()
		require.Equal(t, rdmap.OpWrite, s.Op)
		require.Empty(t, s.Payload)
	}
}

func TestNoNudgeForPeerThatSpeaks(t *testing.T) {
	q, p, _ := role{glued: rtrWrite()}.initiator(t)
	// The peer's Write is seen by whoever waits.
	require.ErrorIs(t, q.Wait(time.Now().Add(700*time.Millisecond)), os.ErrDeadlineExceeded)
	p.silent(time.Millisecond)
}
