package soft_test

import (
	"bytes"
	"io"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/rdmanet/iwarp/transport"
	"github.com/rdmanet/iwarp/transport/soft"
)

// takesTalking has p say something before it takes each FPDU. It must get data as one Send, and the
// end of the stream.
func (p *rawPeer) takesTalking(data []byte) {
	p.t.Helper()
	p.takesAfter(nil, data)
}

// takesAfter is takesTalking for a peer that has got some of data before.
func (p *rawPeer) takesAfter(got, data []byte) {
	p.t.Helper()
	for {
		p.c.Write(rtrWrite()) // which fails once all is over
		s, err := p.segment()
		if err == io.EOF {
			break
		}
		require.NoError(p.t, err)
		got = append(got, s.Payload...)
	}
	require.True(p.t, bytes.Equal(data, got))
}

// refused reports whether the kernel of p has heard that nobody takes what p has sent.
func (p *rawPeer) refused() bool {
	rc, err := p.c.SyscallConn()
	require.NoError(p.t, err)
	var info *unix.TCPInfo
	rc.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) })
	require.NoError(p.t, err)
	return info.State == unix.BPF_TCP_CLOSE
}

// A peer that goes on reading gets everything after the descriptor is gone, whatever it says
// meanwhile.
func TestLeaveRest(t *testing.T) {
	for name, take := range map[string]func(p *rawPeer, data []byte){
		"a peer that is silent": (*rawPeer).takes,
		"a peer that speaks":    (*rawPeer).takesTalking,
		"a peer that reads when it has been refused": func(p *rawPeer, data []byte) {
			p.write(rtrWrite())
			require.NoError(p.t, p.c.SetReadBuffer(1<<20)) // so that its kernel takes all the rest
			first, second := p.next(), p.next()
			require.False(p.t, second.U.Last)
			require.Eventually(p.t, p.refused, limit, time.Millisecond)
			got := append(first.Payload, second.Payload...)
			p.takesAfter(got, data)
		},
	} {
		t.Run(name, func(t *testing.T) {
			partings(t, 0)
			q, p, data := handed(t)
			closer := q.(*soft.QueuePair)
			closer.LeaveRest()
			require.NoError(t, q.Close())
			partings(t, 0)
			require.NoError(t, closer.AwaitClosed(soon()))
			take(p, data)
		})
	}
}

// What the kernel did not take before Close, it takes then.
func TestLeaveRestThatTheKernelDidNotTake(t *testing.T) {
	partings(t, 0)
	data := random(200_000)
	q, p := stuffed(t, data)
	q.(*soft.QueuePair).LeaveRest()
	require.NoError(t, q.Close())
	partings(t, 0)
	p.takesTalking(data)
}

// Where somebody waits to hear that the peer's host has everything, the descriptor is kept for as
// long.
func TestLeaveRestThatSomebodyAwaits(t *testing.T) {
	q, p, data := handed(t)
	closer := q.(*soft.QueuePair)
	closer.LeaveRest()
	closer.WillAwaitClosed()
	require.NoError(t, q.Close())
	partings(t, 1)
	require.ErrorIs(t, closer.AwaitClosed(time.Now()), os.ErrDeadlineExceeded)
	partings(t, 0)
	p.takesTalking(data)
}

// Neither does one lose anything that has to give way to newer ones before the kernel was deafened.
func TestLeaveRestThatGivesWay(t *testing.T) {
	partings(t, 0)
	defer soft.BoundPartings(0)()
	q, p, data := handed(t)
	closer := q.(*soft.QueuePair)
	closer.LeaveRest()
	closer.WillAwaitClosed()
	require.NoError(t, q.Close())
	partings(t, 0)
	require.Error(t, closer.AwaitClosed(soon()))
	p.takesTalking(data)
}

// A kernel that does not let itself be deafened is not left alone.
func TestLeaveRestToAKernelThatHears(t *testing.T) {
	partings(t, 0)
	q, p, data := handed(t)
	closer := q.(*soft.QueuePair)
	require.NoError(t, soft.LockFilter(closer))
	closer.LeaveRest()
	require.NoError(t, q.Close())
	p.write(rtrWrite())
	n, _, _, _ := soft.Partings()
	require.Equal(t, 1, n)
	p.takesTalking(data)
	partings(t, 0)
}

// A peer that the network does not reach costs no descriptor either.
func TestLeaveRestForAPeerThatIsNotReached(t *testing.T) {
	partings(t, 0)
	q, p, _ := role{}.initiator(t)
	closer := q.(*soft.QueuePair)
	require.NoError(t, soft.DropAll(p.c))
	post(t, q, transport.SendWR{Opcode: transport.OpSend, Flags: transport.Inline, Data: []byte("lost")})
	closer.LeaveRest()
	require.NoError(t, q.Close())
	partings(t, 0)
}
