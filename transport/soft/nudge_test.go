package soft_test

import (
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/soft"
	"github.com/rdmanet/iwarp/transport/soft/internal/mpa"
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

// What was sent before the responder spoke may not have been seen, whatever it says then: it is
// sent one more once it is silent.
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

// speaksUnread connects with a responder that may have missed the RTR frame, and has sent something
// that nobody reads.
func speaksUnread(t *testing.T) (*soft.QueuePair, *rawPeer) {
	t.Helper()
	r := role{frame: mpa.Frame{Revision: mpa.Rev2, Flags: mpa.FlagEnhanced | mpa.FlagCRC,
		Enhanced: mpa.Enhanced{IRD: 16, ORD: 16, PeerToPeer: true, RTRWrite: true}}}
	a, b := tcpPair(t)
	p := rawConn(t, b)
	p.write(concat(r.peerFrame(true), rtrWrite()))
	c, err := soft.New(nil).Client(a, nil)
	require.NoError(t, err)
	_, err = c.Connect(testContext(t), nil)
	require.NoError(t, err)
	p.frame(false)
	require.Equal(t, rdmap.OpWrite, p.next().Op, "the RTR frame")
	return c.QueuePair().(*soft.QueuePair), p
}

// While nobody reads there is nothing to be done for an idle connection. When somebody does, the
// responder is sent one more.
func TestNudgeWaitsForAReader(t *testing.T) {
	q, p := speaksUnread(t)
	defer q.Close()
	for end := soon(); !soft.NudgeSuspended(q); time.Sleep(time.Millisecond) {
		require.True(t, time.Now().Before(end))
	}
	require.Empty(t, p.within(30*time.Millisecond))
	require.ErrorIs(t, q.Wait(time.Now().Add(10*time.Millisecond)), os.ErrDeadlineExceeded)
	require.Equal(t, rdmap.OpWrite, p.next().Op)
}

// What serves a queue pair in the background does not keep it.
func TestNudgesKeepNothing(t *testing.T) {
	gone := make(chan struct{})
	p := func() *rawPeer {
		q, p := speaksUnread(t)
		runtime.AddCleanup(q, func(gone chan struct{}) { close(gone) }, gone)
		return p
	}()
	defer p.c.Close()
	for end := soon(); ; {
		runtime.GC()
		select {
		case <-gone:
			return
		case <-time.After(10 * time.Millisecond):
			require.True(t, time.Now().Before(end), "not collected")
		}
	}
}
