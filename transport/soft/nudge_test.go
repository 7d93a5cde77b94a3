package soft_test

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport"
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
	// The peer's Write is seen by whoever waits, at the latest after the first nudge.
	require.ErrorIs(t, q.Wait(time.Now().Add(700*time.Millisecond)), os.ErrDeadlineExceeded)
	require.Less(t, len(p.within(time.Millisecond)), 2*len(rtrWrite()))
}

// A peer that has spoken may be gone already, though nobody has read what it said.
func TestNoNudgeForPeerThatIsUnread(t *testing.T) {
	_, p, _ := role{glued: rtrWrite()}.initiator(t)
	require.Empty(t, p.within(700*time.Millisecond))
}

// What was sent before the responder spoke may not have been seen, whatever it says then: it is sent one more once it is silent.
func TestNudgeBehindWhatWasSentEarly(t *testing.T) {
	q, p, _ := role{}.initiator(t)
	_, err := q.PostSend([]transport.SendWR{{Opcode: transport.OpSend, Flags: transport.Inline, Data: []byte("x")}})
	require.NoError(t, err)
	for s := p.next(); s.Op != rdmap.OpSend; s = p.next() { // a nudge may have come before
		require.Empty(t, s.Payload)
	}
	p.write(rtrWrite())
	require.ErrorIs(t, q.Wait(time.Now().Add(700*time.Millisecond)), os.ErrDeadlineExceeded)
	s := p.next()
	require.Equal(t, rdmap.OpWrite, s.Op)
	require.Empty(t, s.Payload)
}
